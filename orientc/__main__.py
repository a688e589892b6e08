"""`python -m orientc`, and the `orientc` command."""

from orientc.cli import main

if __name__ == "__main__":
    main()
