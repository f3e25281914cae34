"""Users of locust, over REST and gRPC: what many clients at once make of the server, with thresholds. ``make load-test`` runs them all."""
