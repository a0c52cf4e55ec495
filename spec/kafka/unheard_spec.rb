# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

# What a block that is slow does not hear in time.
RSpec.describe "What nobody has heard", :kafka do
  next unless SwarmNative::Kafka.available?

  it "is the newest statistics only, with the number of those before, for a producer" do
    producer = open_producer("statistics.interval.ms": 20)
    slow = Queue.new
    told = []
    producer.on_statistics do |statistics|
      told << statistics.values_at("ts", "skipped")
      slow.pop if told.size == 1
    end
    wait_until(10, "the first") { told.size == 1 }
    # librdkafka's clock is in microseconds.
    from = told[0][0]
    wait_until(10, "time to pass") { Process.clock_gettime(Process::CLOCK_MONOTONIC, :microsecond) - from > 500_000 }
    slow << :go_on
    wait_until(10, "another") { told.size >= 2 }
    expect(told[0][1]).to eq 0
    expect(told[1][1]).to be >= 5
    expect(told[1][0] - from).to be > 300_000
  end

  it "is the newest statistics only for a consumer too" do
    consumer = open_consumer("statistics.interval.ms": 20)
    told = []
    consumer.on_statistics do |statistics|
      told << statistics["skipped"]
      next unless told.size == 1

      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      wait_until(10) { Process.clock_gettime(Process::CLOCK_MONOTONIC) - start > 0.4 }
    end
    wait_until(10, "two") { consumer.poll_batch(1, 0.05) && told.size >= 2 }
    expect(told[0]).to eq 0
    expect(told[1]).to be >= 5
  end

  it "is the newest thousand lines of the log, after one that says how many were lost" do
    producer = open_producer(debug: "protocol", "linger.ms": 0)
    slow = Queue.new
    lines = []
    producer.on_log do |severity, facility, line|
      lines << [severity, facility, line]
      slow.pop if lines.size == 1
    end
    wait_until(10, "the first") { lines.any? }
    # Each says at least that a request was sent and that its answer came.
    600.times { producer.produce(topic: "lines", payload: "x").wait(10) }
    slow << :go_on
    wait_until(10, "the gap") { lines.any? { |_, facility,| facility == "LOST" } }
    expect(lines.find { |_, facility,| facility == "LOST" }).to match [:warn, "LOST", /\A\d+ lines of the log were lost here/]
  end
end
