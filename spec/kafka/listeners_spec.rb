# frozen_string_literal: true

require "spec_helper"
require "timeout"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Listeners", :kafka do
  let(:topic) { new_topic(partitions: 2) }

  def join(consumer)
    wait_until(15, "an assignment") { consumer.poll_batch(1, 0.05) && !consumer.assignment.empty? }
  end

  def fill(*payloads)
    producer = open_producer
    payloads.each_with_index { |payload, i| producer.produce(topic: topic, payload: payload, partition: i % 2) }
    producer.close(10)
  end

  it "tell of partitions that come and, at the close, of those that go, on the thread that polls" do
    told = []
    consumer = open_consumer(topic)
    consumer.on_assigned { |partitions| told << [:assigned, partitions, Thread.current] }
            .on_revoked { |partitions| told << [:revoked, partitions, Thread.current] }
    join(consumer)
    expect(told).to eq [[:assigned, { topic => [0, 1] }, Thread.current]]
    consumer.close
    expect(told.last).to eq [:revoked, { topic => [0, 1] }, Thread.current]
    expect(told.size).to eq 2
  end

  it "keep a partition until the block of its revocation has returned" do
    config = consumer_config
    first = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    join(first)
    second = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    seen_by_second = nil
    first.on_revoked do
      10.times { second.poll_batch(1, 0.02) }
      seen_by_second = second.assignment
    end
    wait_until(20, "one partition each") do
      [first, second].each { |consumer| consumer.poll_batch(1, 0.05) }
      [first, second].map { |consumer| consumer.assignment[topic]&.size } == [1, 1]
    end
    expect(seen_by_second).to eq({})
  end

  # The mock cluster refuses commits while a group rebalances, a real broker does not; at a close both take them.
  it "may commit while partitions are being revoked" do
    fill("a", "b")
    config = consumer_config("enable.auto.commit": false)
    first = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    messages = take(first, 2)
    committed = nil
    first.on_revoked { committed = first.commit(messages) }
    first.close
    expect(committed).to eq(topic => { 0 => 1, 1 => 1 })
  end

  it "do not hear of a revocation before the messages that came before it have been worked on" do
    fill(*Array.new(20, "a"))
    config = consumer_config
    first = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    second = nil
    stored = 0
    # The first one works each batch off before it polls again; that its offsets can be stored shows that the
    # partitions were still its own.
    wait_until(30, "both work") do
      first.poll_batch(3, 0.05).each { |message| first.store_offset(message) && stored += 1 }
      second ||= keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic) if stored >= 5
      second&.poll_batch(3, 0.05)&.each { |message| second.store_offset(message) && stored += 1 }
      stored >= 20 && second.assignment[topic]&.size == 1
    end
  end

  it "tell only of what is new or gone with the cooperative protocol" do
    config = consumer_config("partition.assignment.strategy": "cooperative-sticky")
    first = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    told = []
    first.on_assigned { |partitions| told << [:assigned, partitions[topic].to_a.size] }
         .on_revoked { |partitions| told << [:revoked, partitions[topic].to_a.size] }
    join(first)
    expect(first.rebalance_protocol).to eq "COOPERATIVE"
    second = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    wait_until(20, "one partition each") do
      [first, second].each { |consumer| consumer.poll_batch(1, 0.05) }
      [first, second].map { |consumer| consumer.assignment[topic]&.size } == [1, 1]
    end
    expect(told.reject { |_, count| count.zero? }).to eq [[:assigned, 2], [:revoked, 1]]
  end

  it "pass on what a block raises, and answer the rebalance all the same" do
    consumer = open_consumer(topic)
    consumer.on_assigned { raise IOError, "out" }
    expect { wait_until(15, "a rebalance") { !consumer.poll_batch(1, 0.1) } }.to raise_error(IOError, "out")
    consumer.on_assigned { }
    expect(consumer.assignment).to eq(topic => [0, 1])
  end

  it "pass on what a block raises at the close, once the group is left and the handle has ended" do
    config = consumer_config
    consumer = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    consumer.on_revoked { raise IOError, "out" }
    join(consumer)
    expect { consumer.close }.to raise_error(IOError, "out")
    expect([consumer.closed?, consumer.close]).to eq [true, true]
    # Nobody waits for the session of one that has left.
    other = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    join(other)
    expect(other.assignment).to eq(topic => [0, 1])
  end

  it "tell of a lost assignment by on_lost, and by on_revoked where there is no such block" do
    { on_lost: :lost, on_revoked: :revoked }.each do |method, name|
      consumer = open_consumer(topic, "max.poll.interval.ms": 1500)
      told = []
      consumer.on_revoked { told << :revoked }
      consumer.public_send(method) { told << name << consumer.assignment_lost? }
      join(consumer)
      expect(consumer.assignment_lost?).to be false
      # Nobody polls for longer than is allowed: the group takes the member for dead.
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      wait_until(10) { Process.clock_gettime(Process::CLOCK_MONOTONIC) - start > 2.5 }
      wait_until(15, "the loss") do
        consumer.poll_batch(1, 0.1)
        told.any?
      rescue SwarmNative::Kafka::Error => e
        raise unless e.name == :max_poll_exceeded
      end
      expect(told.first(2)).to eq [name, true]
      consumer.close
    end
  end

  it "tell of the end of a partition" do
    fill("a", "b", "c")
    ends = []
    consumer = open_consumer(topic, "enable.partition.eof": true)
    consumer.on_end { |*place| ends << place }
    take(consumer, 3)
    wait_until(10, "both ends") { consumer.poll_batch(1, 0.05) && ends.size >= 2 }
    expect(ends.sort).to eq [[topic, 0, 2], [topic, 1, 1]]
  end

  it "say nothing of the end of a partition without a block" do
    fill("a")
    consumer = open_consumer(topic, "enable.partition.eof": true)
    take(consumer, 1)
    expect(consumer.poll_batch(1, 0.5)).to be_empty
  end

  it "tell of errors that librdkafka repairs, and of its statistics" do
    consumer = keep(SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g",
                                                     "statistics.interval.ms": 50))
    errors = []
    statistics = []
    consumer.on_error { |error| errors << error }.on_statistics { |about| statistics << about }
    wait_until(10, "both") { consumer.poll_batch(1, 0.1) && errors.any? && statistics.any? }
    expect(errors.map(&:name)).to include(:transport).or include(:all_brokers_down)
    expect(errors).to all be_retriable
    expect(statistics.first).to include("client_id" => "rdkafka", "type" => "consumer")
  end

  # librdkafka puts statistics before all messages, and a poll looks for log lines before it looks for messages.
  { "statistics" => { "statistics.interval.ms": 1 }, "log lines" => { debug: "all" } }.each do |what, config|
    it "keep no poll from its deadline, and no message back, when they are slower than #{what} come" do
      fill("a", "b")
      consumer = open_consumer(**config)
      heard = 0
      slow = ->(*) { heard += 1 if sleep(0.03) }
      what == "statistics" ? consumer.on_statistics(&slow) : consumer.on_log(&slow)
      consumer.assign(topic => { 0 => 0, 1 => 0 })
      payloads = []
      Timeout.timeout(30) do
        payloads.concat(consumer.poll_batch(10, 0.02).payloads) until payloads.size == 2
        before = heard
        10.times { consumer.poll_batch(10, 0.02) }
        expect(heard - before).to be >= 10
      end
      expect(payloads.sort).to eq %w[a b]
    end
  end

  it "do not keep a poll that does not wait from a message when they are quick" do
    fill(*Array.new(1000, "a"))
    consumer = open_consumer("statistics.interval.ms": 5)
    heard = 0
    consumer.on_statistics { heard += 1 }
    consumer.assign(topic => { 0 => 0, 1 => 0 })
    take(consumer, 2)
    both = 0
    wait_until(10, "a poll that has heard and taken, after #{heard}") do
      before = heard
      message = consumer.poll(0)
      both += 1 if message && heard > before
      both.positive?
    end
  end

  it "need a block" do
    expect { open_consumer.on_revoked }.to raise_error(ArgumentError, /on_revoked needs a block/)
  end

  describe "of OAUTHBEARER" do
    def with_token(&block)
      keep SwarmNative::Kafka::Consumer.new(
        { "bootstrap.servers": "127.0.0.1:1", "group.id": "g", "security.protocol": "sasl_plaintext",
          "sasl.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.config": "scope=orders" }, token: block
      )
    end

    it "ask the block for a token, on the thread that polls, and again before it ends" do
      asked = []
      consumer = with_token do |config|
        asked << [config, Thread.current]
        { token: "abc", principal: "me", expires_at: Time.now + 1, extensions: { "logicalCluster" => "x" } }
      end
      wait_until(10, "two tokens") { consumer.poll_batch(1, 0.05) && asked.size >= 2 }
      expect(asked).to all eq ["scope=orders", Thread.current]
    end

    it "take a token that is none, and a block that raises, for a failure that is told" do
      [proc { raise KeyError, "no key" }, proc { { token: "", principal: "me", expires_at: Time.now - 1 } },
       proc { {} }].each do |block|
        errors = []
        consumer = with_token(&block)
        wait_until(10, "the failure") do
          consumer.poll_batch(1, 0.05)
          false
        rescue SwarmNative::Kafka::Error => e
          errors << e
        end
        expect(errors.first.name).to eq :authentication
        consumer.close(0)
      end
    end
  end
end
