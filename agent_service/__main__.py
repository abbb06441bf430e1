"""`python -m agent_service`: the same as the command `agent-service`."""

from agent_service.cli import main

if __name__ == "__main__":
    main()
