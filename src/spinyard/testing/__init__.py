"""What others need to test with: contract suites, the simulated world, an honest load generator."""
