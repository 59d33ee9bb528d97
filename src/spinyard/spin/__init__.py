"""Domain 1: services that come and go. Pure: `status` (states), `snapshot` (what is seen), `decide`, one file per
rule."""
