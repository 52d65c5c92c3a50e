"""Many processes on one study: the queue is Optuna's on PostgreSQL, and each candidate is completed once."""
