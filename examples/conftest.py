"""The fixtures of agent_service for the tests beside this file."""

pytest_plugins = ["agent_service.testing.fixtures"]
