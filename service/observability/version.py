"""Which program this is."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_version


def package_version(package: str = "paliserve") -> str:
    """The installed version; "0" where the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


def build() -> dict[str, str]:
    """What an answer depends on besides the weights: versions of Python and of the libraries that compute."""
    return {"python": python_version(), **{name: package_version(name) for name in ("torch", "transformers")}}
