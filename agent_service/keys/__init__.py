"""API keys as the API and the commands use them: those in MongoDB and those in a file, together."""
