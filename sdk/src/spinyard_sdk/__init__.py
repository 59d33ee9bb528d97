"""What parents and units share. This package never imports `spinyard`."""
