# frozen_string_literal: true

require "spec_helper"
require_relative "../support/real_kafka"

# The broker is killed, so that it has no chance to say good-bye, and starts again on what its disk has.
RSpec.describe "a broker that is killed and started again" do
  next unless SwarmNative::Kafka.available?

  before(:all) do
    why = "needs Java and Maven, for a real Kafka"
    ENV["CI"] ? raise(why) : skip(why) unless RealKafka.available?

    @kafka = RealKafka.start(partitions: 3, memory: "256m")
  end

  after(:all) { @kafka&.stop }

  # Each attempt to reach the broker is a line.
  around do |example|
    logger, SwarmNative.logger = SwarmNative.logger, nil
    example.run
  ensure
    SwarmNative.logger = logger
  end

  attr_reader :kafka

  def servers = { "bootstrap.servers": kafka.bootstrap_servers, "reconnect.backoff.max.ms": 500 }

  it "costs no message, no order and no standstill, while producers and a processor go on" do
    partitions, sent, seen = 3, 0, Array.new(3) { [] }
    errors = []
    processor = SwarmNative::Kafka::Processor.new(
      config: { **servers, "group.id": "g", "auto.offset.reset": "earliest", "session.timeout.ms": 6000 },
      topics: "orders", concurrency: 3, max_wait: 0.0, backoff_min: 0.1
    )
    processor.on(:error) { |event| errors << event }
    producer = SwarmNative::Kafka::Producer.new({ **servers, "enable.idempotence": true, "linger.ms": 1 })
    deliveries = []
    going = true
    producing = Thread.new do
      while going
        # In their order on each partition; the queue is bounded, also while nobody takes anything.
        deliveries << producer.produce(topic: "orders", partition: sent % partitions, payload: (sent / partitions).to_s)
        sent += 1
        sleep 0.001
      end
    end
    wait_until(30, "the topic") { deliveries.any?(&:delivered?) }
    # Only one job of a partition runs at a time.
    running = Thread.new { processor.run { |batch| seen[batch.partition].concat(batch.payloads.map(&:to_i)) } }
    wait_until(30, "some work") { seen.all? { |some| some.size > 50 } }

    kafka.kill
    at_kill = sent
    wait_until(10, "messages that no broker takes") { sent > at_kill + 100 }
    before = seen.sum { |some| some.uniq.size }
    kafka.go_on

    wait_until(40, "new work") { seen.all? { |some| some.max.to_i > (at_kill + 100) / partitions } }
    going = false
    producing.join
    expect(producer.flush(40)).to be true
    expect(deliveries.map(&:error).compact).to eq []
    wait_until(40, "all messages") { seen.sum { |some| some.uniq.size } == sent }
    processor.stop
    expect(running.join(30)).to be running
    expect(producer.close).to eq({})

    expect(sent).to be > before
    seen.each_with_index do |some, partition|
      # What was done and not committed yet comes again, from there on and in order.
      expect(some.each_with_index.select { |number, i| i.positive? && number > some[i - 1] + 1 }).to eq []
      # Each once on the broker: a message sent again is not stored again.
      expect(deliveries.select { |delivery| delivery.partition == partition }.map(&:offset)).to eq (0...some.uniq.size).to_a
    end
    # Nothing that anybody has to put right: a commit that found no broker is made again by the next one.
    expect(errors.map(&:reason).uniq - %w[poll commit]).to eq []
    expect(errors.map { |event| event.error.retriable? }.uniq - [true]).to eq []
  ensure
    going = false
    producing&.kill
    processor&.stop
    running&.join(30)
    producer&.close(0)
  end
end
