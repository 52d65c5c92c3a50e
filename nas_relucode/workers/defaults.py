"""How often workers send a heartbeat, and how long they wait for a lost database, in seconds."""

HEARTBEAT, LONGEST_HEARTBEAT = 60, 86_400
PATIENCE = 600.0
BEAT = "heartbeat"  # the study's attribute that holds the interval which was planned
