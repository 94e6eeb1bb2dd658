"""The package's version, and the versions that results depend on."""

import platform
from importlib import metadata


__version__ = "0.2.0"

RECORDED_PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "av", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version(), "vitaclip_hf": __version__}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
