"""`python -m cmb_lightning` is the command `cmb-lightning`."""

from cmb_lightning.cli import main

if __name__ == "__main__":
    main()
