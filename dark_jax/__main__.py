"""``python -m dark_jax`` and the ``dark-jax`` command."""

import sys

from dark_jax._core import optional


def main() -> None:
    """Run the command line, or name the package that it lacks."""
    try:
        for module in ("click", "rich"):
            optional.load(module, extra="cli")
    except ImportError as error:
        print(f"dark-jax: {error}", file=sys.stderr)
        sys.exit(2)
    from dark_jax import _cli

    sys.exit(_cli.run())


if __name__ == "__main__":
    main()
