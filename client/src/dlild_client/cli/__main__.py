"""Run `dlild` as ``python -m dlild_client.cli``."""

from dlild_client.cli.app import main

if __name__ == "__main__":
    main()
