"""Run `dlild-deploy` as ``python -m dlild_deploy``."""

from dlild_deploy.cli import run

if __name__ == "__main__":
    run()
