"""`python -m broadbase`: the command line."""

from broadbase.cli import main

if __name__ == "__main__":
    main()
