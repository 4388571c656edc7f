"""The platform of an ECP5 board: that of a known board, or one of amaranth-boards by its name."""

import importlib
import importlib.util
import inspect
import pkgutil
import re

from eftrain.boards import BOARDS, OTHER_ECP5, find, other_ecp5
from eftrain.errors import UserError

__all__ = ["PLATFORMS", "board_of", "platform_of"]

PLATFORMS = {"ulx3s": ("platforms.ulx3s", "Ulx3sPlatform")}
"""Board: module and class of its platform."""

_PACKAGE = "amaranth_boards"


def platform_of(name):
    """A fresh platform of a board.

    Parameters
    ----------
    name : str
        Key of :data:`PLATFORMS`, or name of an :func:`eftrain.boards.other_ecp5`.
    """
    if name in PLATFORMS:
        module, attribute = PLATFORMS[name]
        return getattr(importlib.import_module(module), attribute)()
    return _named(name.removeprefix(OTHER_ECP5))[1]()


def board_of(name):
    """The board that a module or a class of amaranth-boards describes.

    Of a module with boards for several parts it is the one whose part is large enough. Case,
    ``_``, ``-`` and a final ``Platform`` do not matter, unless the name is just that of a class.

    Parameters
    ----------
    name : str
        For example ``ecpix5``, ``ECPIX585`` or ``ECPIX585Platform``.

    Returns
    -------
    eftrain.boards.Board
        A known one, where it has this platform.

    Raises
    ------
    UserError
        If there is no such board, or it lacks a part.
    """
    from amaranth.vendor import LatticePlatform

    from .ecp5_top import DEVICES, check_platform

    canonical, cls = _named(name.removeprefix(OTHER_ECP5))
    for known, (module, attribute) in PLATFORMS.items():
        if issubclass(getattr(importlib.import_module(module), attribute), cls):
            return find(known)
    if not issubclass(cls, LatticePlatform):
        raise UserError(
            f"{cls.__name__} has no ECP5, and the system needs one of {', '.join(DEVICES)}."
        )
    platform = cls()
    check_platform(platform)
    part = f"{platform.device}-{platform.speed}{platform.package}{platform.grade}"
    return other_ecp5(canonical, part)


def _named(name):
    """The name as amaranth-boards spells it, and the class of the platform."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise UserError(
            f"Board {name!r} is none of {', '.join(BOARDS)}; for those of amaranth-boards run "
            "`pip install 'eftrain[boards]'`."
        )
    from .ecp5_top import DEVICES

    modules = dict(_modules())
    classes = [cls for found in modules.values() for cls in found]
    choices = [
        *((cls.__name__, cls) for cls in classes if cls.__name__ == name),
        # The first that has a large enough part, or the first.
        *(
            (module, min(found, key=lambda cls: getattr(cls, "device", None) not in DEVICES))
            for module, found in modules.items()
            if found and _plain(module) == _plain(name)
        ),
        *((cls.__name__, cls) for cls in classes if _plain(cls.__name__) == _plain(name)),
    ]
    if choices:
        return choices[0]
    raise UserError(
        f"Board {name!r} is unknown; choose one of {', '.join(BOARDS)}, or a board with an "
        "ECP5-85F by its name in amaranth-boards."
    )


def _modules():
    """Names of the modules of amaranth-boards, and the boards' classes in each."""
    from amaranth.build import Platform

    package = importlib.import_module(_PACKAGE)
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg:
            module = importlib.import_module(f"{_PACKAGE}.{info.name}")
            yield info.name, [
                cls
                for cls in vars(module).values()
                if inspect.isclass(cls)
                and issubclass(cls, Platform)
                and cls.__module__ == module.__name__
                # Bases of several boards leave their part open.
                and not inspect.isabstract(cls)
            ]


def _plain(name):
    """What has to agree of two names."""
    return re.sub("[_-]|platform$", "", name.lower())
