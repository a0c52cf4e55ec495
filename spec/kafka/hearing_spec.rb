# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Hearing", :kafka do
  it "tells of delivered and of failed messages, many at a time, on one thread of the producer's own" do
    topic = new_topic(partitions: 2)
    told = Queue.new
    producer = open_producer("message.send.max.retries": 0)
    expect(producer.on_delivered { |deliveries| told << [Thread.current, deliveries] }).to equal producer
    producer.produce_many(Array.new(500) { |i| { topic: topic, payload: "x", partition: i % 2 } })
    producer.flush(20)
    bad, handle = produce_refused(producer)
    producer.close(20)
    all = Array.new(told.size) { told.pop }
    deliveries = all.flat_map(&:last)
    expect(all.map(&:first).uniq.size).to eq 1
    expect(all.first.first).not_to eq Thread.current
    expect(all.size).to be < 250
    good, failed = deliveries.partition(&:delivered?)
    expect([good.size, good.map(&:topic).uniq, failed.map { |it| [it.topic, it.error.name] }])
      .to eq [500, [topic], [[bad, handle.error.name]]]
    expect(good.map { |it| [it.partition, it.offset] }.sort).to eq [0, 1].product((0...250).to_a)
    expect(good.first.wait).to equal good.first
  end

  it "tells of everything before its close returns, also when the block is slow, and of nothing without a block" do
    topic = new_topic
    told = 0
    producer = open_producer
    producer.produce(topic: topic, payload: "before").wait(10)
    producer.on_delivered { |deliveries| sleep(0.05) && told += deliveries.size }
    20.times { producer.produce(topic: topic, payload: "x").wait(10) }
    producer.close
    expect(told).to eq 20
    expect(Thread.list.map(&:name)).not_to include("swarm producer")
  end

  it "keeps no wait from its deadline when a block is slow, and tells of the rest after the close" do
    topic = new_topic
    gate, logged = Queue.new, Queue.new
    logger = SwarmNative.logger
    SwarmNative.logger = Class.new { define_method(:warn) { |line| logged << line } }.new
    told = 0
    producer = open_producer
    producer.on_delivered { |deliveries| gate.pop && told += deliveries.size }
    3.times { producer.produce(topic: topic, payload: "x").wait(10) }
    producer.produce(topic: topic, payload: "x")
    expect(producer.flush(10)).to be true
    wait_until(10, "all answers") { producer.untold == 4 }
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    expect(producer.close(0.1)).to eq({})
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 15
    expect(logged.pop(true)).to match(/Producer rdkafka#producer-\d+> is closed .* 4 deliveries have still to be told/)
    expect(told).to eq 0
    4.times { gate << true }
    wait_until(10, "the rest") { producer.untold.zero? }
    expect([told, producer.close]).to eq [4, {}]
    expect(Thread.list.map(&:name)).not_to include("swarm producer")
  ensure
    gate&.close
    SwarmNative.logger = logger
  end

  it "goes on after a rest, with the same blocks" do
    topic = new_topic
    told = Queue.new
    producer = open_producer
    producer.on_delivered { |deliveries| told << deliveries.size }
    producer.produce(topic: topic, payload: "x").wait(10)
    expect(producer.rest(10)).to be true
    producer.produce(topic: topic, payload: "x").wait(10)
    producer.close
    expect(Array.new(told.size) { told.pop }.sum).to eq 2
  end

  it "logs what a block raises, and goes on; a block may close its producer" do
    topic = new_topic
    logged = Queue.new
    logger = SwarmNative.logger
    SwarmNative.logger = Class.new { define_method(:error) { |line| logged << line } }.new
    producer = open_producer
    closed = Queue.new
    producer.on_delivered do
      raise IOError, "out" if logged.empty?

      closed << producer.close
    end
    producer.produce(topic: topic, payload: "x").wait(10)
    expect(wait_until(10) { !logged.empty? && logged.pop }).to eq "the block of on_delivered raised: out (IOError)"
    logged << "seen"
    producer.produce(topic: topic, payload: "x").wait(10)
    expect(wait_until(10) { !closed.empty? && closed.pop }).to eq({})
  ensure
    SwarmNative.logger = logger
  end

  it "tells of errors, statistics and log lines" do
    producer = keep(SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1", "statistics.interval.ms": 50))
    errors, statistics, lines = Queue.new, Queue.new, Queue.new
    producer.on_error { |error| errors << error }.on_statistics { |about| statistics << about }
            .on_log { |*line| lines << line }
    wait_until(20, "all three") { [errors, statistics, lines].none?(&:empty?) }
    expect(errors.pop.name).to eq(:transport).or eq(:all_brokers_down)
    expect(statistics.pop).to include("type" => "producer")
    severity, facility, line = lines.pop
    expect([severity, facility, line]).to match [:error, "FAIL", /Connection refused/]
    expect { producer.on_delivered }.to raise_error(ArgumentError, "on_delivered needs a block")
  end

  it "asks for OAUTHBEARER tokens, and tells of a failure" do
    asked = Queue.new
    config = { "bootstrap.servers": "127.0.0.1:1", "security.protocol": "sasl_plaintext",
               "sasl.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.config": "scope=orders" }
    good = lambda do |wanted|
      asked << wanted
      { token: "abc", principal: "me", expires_at: Time.now + 1 }
    end
    keep(SwarmNative::Kafka::Producer.new(config, token: good))
    wait_until(10, "two tokens") { asked.size >= 2 }
    expect(asked.pop).to eq "scope=orders"
    errors = Queue.new
    keep(SwarmNative::Kafka::Producer.new(config, token: ->(_) { raise KeyError, "no key" })).on_error { |e| errors << e.name }
    wait_until(20, "the failure") { !errors.empty? && errors.pop == :authentication }
  end

  it "does not hold up the end of a process, nor a fork of one that has closed it" do
    result = run_ruby(<<~'RUBY', deadline: 30)
      open = -> { SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1").on_log { } }
      open.call.close(0)
      Process.wait(fork { open.call })
      puts $?.success?
      open.call
    RUBY
    expect([result.out, result.err, result.success?]).to eq ["true\n", "", true]
  end

  it "is there for a consumer's log too" do
    consumer = keep(SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g"))
    lines = []
    consumer.on_log { |*line| lines << [*line, Thread.current] }
    wait_until(20, "a line") { consumer.poll(0.1) || lines.any? }
    expect(lines.first).to match [:error, "FAIL", /Connection refused/, Thread.current]
  end
end
