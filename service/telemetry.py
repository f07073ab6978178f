"""What the service measures of itself, in Prometheus' form; one registry an app."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.jobs import Jobs
from service.live.follower import Follower
from service.live.residency import Residency
from service.live.table import LiveTable

SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """Counters and histograms, and gauges read from the live table when asked."""

    def __init__(self, live: LiveTable) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "swaprec_requests",
            "Answers by route and status.",
            ("route", "domain", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "swaprec_request_seconds",
            "Time to answer.",
            ("route",),
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self.batch_rows = Histogram(
            "swaprec_batch_rows",
            "Histories encoded in one forward.",
            buckets=ROWS_BUCKETS,
            registry=self._registry,
        )
        self.batch_adapters = Histogram(
            "swaprec_batch_domains",
            "Different adapters in one forward.",
            buckets=ROWS_BUCKETS,
            registry=self._registry,
        )
        self.swap_seconds = Histogram(
            "swaprec_swap_seconds",
            "Time of a flip.",
            buckets=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
            registry=self._registry,
        )
        self.fallbacks = Counter(
            "swaprec_fallback",
            "Answers that do not come from the model.",
            ("reason",),
            registry=self._registry,
        )
        self.unknown_items = Counter(
            "swaprec_unknown_items",
            "Items of histories that no catalog has.",
            registry=self._registry,
        )
        self.arms = Histogram(
            "swaprec_arm_seconds",
            "Time to answer while a canary runs, by arm and version.",
            ("domain", "arm", "version", "outcome"),
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self.rejected = Counter(
            "swaprec_rejected", "Requests turned away.", ("reason",), registry=self._registry
        )
        self.return_seconds = Histogram(
            "swaprec_return_seconds",
            "Time to bring a domain back to memory.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
            registry=self._registry,
        )
        self._refused_on: dict[str, tuple[Counter, Counter]] = {}
        self._live = live
        self._registry.register(_LiveGauges(live))

    def observe_batch(self, rows: int, adapters: int) -> None:
        """Record one forward."""
        self.batch_rows.observe(rows)
        self.batch_adapters.observe(adapters)

    def count_refused(self, path: str) -> None:
        """Count a recommendation that was refused before anything of it was read."""
        for counter in self._refused(path):
            counter.inc()

    def _refused(self, path: str) -> tuple[Counter, Counter]:
        # Finding a series takes as long as the rest of a refusal does.
        found = self._refused_on.get(path)
        if found is None:
            by_status = self.requests.labels(path, "", "429")
            found = self._refused_on[path] = by_status, self.rejected.labels("queue_full")
        return found

    def forget(self, domain: str) -> None:
        """Drop the series of a deleted domain: each metric with a `domain` label belongs here."""
        for metric in (self.requests, self.arms):
            metric.remove_by_labels({"domain": domain})

    def watch(self, follower: Follower, residency: Residency, jobs: Jobs) -> None:
        """Show how far behind the change feed this process is,
        what is in memory, and how far its jobs are.
        """
        self._registry.register(_Memory(residency, self._live))
        self._registry.register(_Progress(jobs))
        lag = Gauge(
            "swaprec_replica_lag_seconds",
            "Age of the oldest change not applied.",
            registry=self._registry,
        )
        lag.set_function(lambda: follower.lag_s)

    def observe_arm(
        self, domain: str, arm: str, version: str, outcome: str, seconds: float
    ) -> None:
        """Record an answer of a domain that has a canary;
        arm is `live` or `canary`, outcome `answer` or `error`.
        """
        self.arms.labels(domain, arm, version, outcome).observe(seconds)

    def forget_arms(self, domain: str) -> None:
        """Drop the series of a canary that is over,
        when another one begins: versions would pile up.
        """
        self.arms.remove_by_labels({"domain": domain})

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self._registry)


class _LiveGauges(Collector):
    def __init__(self, live: LiveTable) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        items = GaugeMetricFamily(
            "swaprec_index_items", "Items that a domain can recommend.", labels=["domain"]
        )
        memory = GaugeMetricFamily(
            "swaprec_memory_bytes", "Memory of a live value.", labels=["domain", "part"]
        )
        for deployment in self._live.all():
            items.add_metric([deployment.live.domain], len(deployment.live.items))
            for part, size in deployment.live.memory().items():
                memory.add_metric([deployment.live.domain, part], size)
        yield items
        yield memory


class _Progress(Collector):
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        shares = GaugeMetricFamily(
            "swaprec_job_progress", "Share of a job's stage.", labels=["kind", "domain"]
        )
        for labels, share in self._jobs.shares().items():
            shares.add_metric(labels, share)
        yield shares


class _Memory(Collector):
    def __init__(self, residency: Residency, live: LiveTable) -> None:
        self._residency = residency
        self._live = live

    def collect(self) -> Iterator[Metric]:
        kept = self._residency
        yield GaugeMetricFamily(
            "swaprec_resident_bytes", "Vectors, indexes and ids in memory.", self._live.bytes
        )
        yield GaugeMetricFamily(
            "swaprec_budget_bytes", "What may be in memory; 0 is no limit.", kept.budget
        )
        yield GaugeMetricFamily(
            "swaprec_resting_domains", "Domains to be brought back.", len(self._live.evicted)
        )
        yield CounterMetricFamily(
            "swaprec_domain_hits", "Requests whose domain was in memory.", kept.hits
        )
        yield CounterMetricFamily(
            "swaprec_domain_misses", "Times a domain was brought back.", kept.misses
        )
        yield CounterMetricFamily(
            "swaprec_domain_evictions", "Times a domain made room.", kept.evictions
        )
