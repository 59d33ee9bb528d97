"""Puts the first photographs into the gallery: real ones, shipped inside the PyPI package scikit-image.

    GALLERY_DATA=DIR python -m examples.gallery.seed

Each photo has a fixed Idempotency-Key, so it may run any number of times and in any number of processes at once.
scikit-image is never imported (that would need numpy and scipy): only its folder is looked up.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

if not __package__:  # run as a file: the folder that holds `examples` is needed, not the one that holds this file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.gallery.settings import read_settings
from examples.gallery.store import Store
from examples.gallery.validate import validate_photo

# File, title, who to thank. Licences: see README.md.
PHOTOS = (
    ("clock_motion.png", "Clock in motion", "Stéfan van der Walt, public domain"),
    ("camera.png", "The photographer", "Lav Varshney, CC0"),
    ("hubble_deep_field.jpg", "Hubble deep field", "NASA, public domain"),
    ("rocket.jpg", "DSCOVR lifts off", "SpaceX, public domain"),
    ("astronaut.png", "Eileen Collins", "NASA, public domain"),
    ("coffee.png", "Coffee at Pikolo", "Rachel Michetti, CC0"),
    ("chelsea.png", "Chelsea the cat", "Stéfan van der Walt, CC0"),
)


def shipped_photos() -> Path:
    """The folder with the photographs. Raises SystemExit when the package is missing."""
    spec = find_spec("skimage")
    folders = [Path(place) / "data" for place in (spec.submodule_search_locations or ())] if spec else []
    for folder in folders:
        if all((folder / name).is_file() for name, _, _ in PHOTOS):
            return folder
    raise SystemExit(
        "gallery: the photographs are missing; run: "
        "pip install --no-deps --requirement examples/gallery/requirements.txt"
    )


def seed(store: Store, folder: Path) -> int:
    """Returns how many photos this call added."""
    added = 0
    for name, title, thanks in PHOTOS:
        data = (folder / name).read_bytes()
        photo, is_new = store.add_photo(data, validate_photo(data), title, f"seed/{name}")
        store.add_comment(photo.id, "gallery", f"Photo: {thanks}.", f"seed/{name}")
        added += is_new
    return added


def main() -> int:
    settings = read_settings()
    folder = shipped_photos()
    store = Store(settings.data, photos_max=settings.photos_max)
    store.open()
    added = seed(store, folder)
    print(f"gallery: {added} photos added, {store.count_photos()} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
