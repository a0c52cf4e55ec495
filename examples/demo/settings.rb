# frozen_string_literal: true

module Demo
  # Of the swarm, in seconds. In production they are ten times as long and more; here nobody wants to wait.
  POLICY = {
    report_interval: 0.25, report_timeout: 1.5, shutdown_timeout: 2.0,
    # A node that had been ready is replaced at once, however often it was struck.
    stable_after: 0
  }.freeze

  # How long a node may take to leave its group: less than it has to stop. Who has not left in time is missed by the
  # group soon enough.
  LEAVE = 1.0

  # Of every consumer, in librdkafka's own words.
  GROUP = {
    "auto.offset.reset": "earliest",
    "enable.auto.offset.store": false,
    "auto.commit.interval.ms": 100,
    # Partitions change hands one by one while the others are consumed. Classic groups of the embedded broker stand
    # still meanwhile, and take no commits: what was done since the last one would be done again.
    "group.protocol": "consumer",
    "fetch.wait.max.ms": 50
  }.freeze
end
