"""Run the embedded server with the standard library alone."""

from dlild_deploy.server.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
