# frozen_string_literal: true

module Demo
  # Of the swarm, in seconds. In production they are ten times as long and more; here nobody wants to wait.
  POLICY = {
    report_interval: 0.25, report_timeout: 1.5, shutdown_timeout: 2.0,
    # A node that had been ready is replaced at once, however often it was struck.
    stable_after: 0
  }.freeze

  # How long a node may take to leave its group: less than it has to stop. Who has not left in time is missed by the group
  # soon enough.
  LEAVE = 1.0

  # Of every consumer, in librdkafka's own words.
  GROUP = {
    "auto.offset.reset": "earliest",
    "enable.auto.offset.store": false,
    "auto.commit.interval.ms": 100,
    # Short, since the partitions of a process that is gone are given to others only when its session has timed out.
    "session.timeout.ms": 500,
    "heartbeat.interval.ms": 100,
    # The others go on with their partitions while those of one are given away.
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.wait.max.ms": 50
  }.freeze
end
