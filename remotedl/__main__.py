"""`python -m remotedl`."""

from remotedl.cli import main

if __name__ == "__main__":
    main()
