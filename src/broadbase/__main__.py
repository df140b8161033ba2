"""`python -m broadbase`: the command line."""

from broadbase.commands.main import main

if __name__ == "__main__":
    main()
