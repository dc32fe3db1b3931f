"""`python -m shitu_cli` is `shitu`."""

from shitu_cli.cli.app import main

if __name__ == "__main__":
    main()
