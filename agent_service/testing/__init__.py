"""For tests of programs that use agent_service, and for its own."""
