"""What answers about the fleet look like, for the OpenAPI document."""

from agent_service.domain.json_value import JsonObject

_WORKER: JsonObject = {
    "id": "5e3c2f0a-6f0e-4f63-9d0b-0c6a54c1a7de",
    "service": "generation",
    "queues": ["default"],
    "seen_at": "2026-11-23T13:52:52.118Z",
}

HEALTHY: JsonObject = {"status": "healthy", "workers_online": 1, "workers": [_WORKER], "unserved": []}

UNHEALTHY: JsonObject = {
    "status": "unhealthy",
    "workers_online": 1,
    "workers": [_WORKER],
    "unserved": [
        {
            "service": "analysis",
            "queue": "default",
            "reason": "no worker of analysis gave a sign of life within 45 s",
        }
    ],
}

STATISTICS: JsonObject = {
    "at": "2026-11-23T13:52:55.031Z",
    "services": [
        {
            "service": "generation",
            "may_be_called": False,
            "breaker": "closed",
            "holds": [
                {
                    "name": "retry_after",
                    "reason": "the service asked for a pause",
                    "since": "2026-11-23T13:52:50.200Z",
                    "until": "2026-11-23T13:53:00.200Z",
                }
            ],
            "queues": [
                {
                    "queue": "default",
                    "pending": 41,
                    "scheduled": 2,
                    "blocked": 7,
                    "running": 10,
                    "oldest_pending_seconds": 12.4,
                    "ended": [
                        {"window_seconds": 60.0, "completed": 57, "failed": 1, "cancelled": 0},
                        {"window_seconds": 300.0, "completed": 260, "failed": 1, "cancelled": 0},
                        {"window_seconds": 900.0, "completed": 811, "failed": 4, "cancelled": 2},
                    ],
                    "sampled": 100,
                    "queue_wait_seconds": {"p50": 0.8, "p95": 11.9},
                    "duration_seconds": {"p50": 9.7, "p95": 24.1},
                    "attempts": {"completed": 90112, "retrying": 1302, "failed": 77},
                }
            ],
        }
    ],
    "workers": [
        {
            **_WORKER,
            "host": "worker-7d4b9",
            "pid": 7,
            "version": "0.1.0",
            "concurrency": 10,
            "running": 10,
            "loop_lag_seconds": 0.004,
            "trouble": "",
            "started_at": "2026-11-23T09:00:01.702Z",
        }
    ],
}
