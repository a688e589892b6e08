"""What several tests share: small models, data, a loopback hub, and ways to run the command line."""
