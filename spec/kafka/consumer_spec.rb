# frozen_string_literal: true

require "spec_helper"
require "timeout"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Consumer", :kafka do
  def kafka_error(name)
    raise_error(an_instance_of(SwarmNative::Kafka::Error).and(have_attributes(name: name)))
  end

  # A topic with these payloads, one partition each unless told otherwise.
  def topic_with(*payloads, partitions: 1)
    topic = new_topic(partitions: partitions)
    producer = open_producer
    payloads.each_with_index { |payload, i| producer.produce(topic: topic, payload: payload, partition: i % partitions) }
    expect(producer.close(10)).to eq({})
    topic
  end

  # Polls until it has its partitions.
  def join(consumer)
    wait_until(15, "an assignment") { consumer.poll_batch(1, 0.05) && !consumer.assignment.empty? }
  end

  describe "#poll_batch" do
    it "gives what is there, up to max, in the order of the partition" do
      consumer = open_consumer(topic_with("a", "b", "c"))
      expect(take(consumer, 2).map(&:payload)).to eq %w[a b]
      batch = consumer.poll_batch(10, 10)
      expect(batch.map { |message| [message.payload, message.offset] }).to eq [["c", 2]]
    end

    it "makes one object for a message that is there already, where it is polled alone" do
      consumer = open_consumer(topic_with(*Array.new(100) { |i| i.to_s }))
      take(consumer, 1)
      made = Array.new(99) do |i|
        before = GC.stat(:total_allocated_objects)
        message = consumer.poll(30)
        made = GC.stat(:total_allocated_objects) - before
        expect([message.offset, message.payload]).to eq [i + 1, (i + 1).to_s]
        made
      end
      # Where it had to wait, or another thread has worked, there were others.
      expect(made.tally.max_by(&:last).first).to eq 1
      expect(consumer.poll(0)).to be_nil
      expect { consumer.poll(-1) }.to raise_error(ArgumentError, /-1/)
    end

    it "tells Ruby how much memory a message takes" do
      consumer = open_consumer(topic_with(*Array.new(3) { "x" * 900_000 }))
      GC.start
      GC.disable
      before = GC.stat(:malloc_increase_bytes)
      messages = Array.new(2) { consumer.poll(30) } + take(consumer, 1)
      expect(GC.stat(:malloc_increase_bytes) - before).to be >= 2_700_000
      expect(messages.map(&:payload_size)).to eq [900_000] * 3
    ensure
      GC.enable
    end

    it "takes no further message once the batch has max_bytes" do
      consumer = open_consumer(topic_with("a" * 100, "b" * 100, "c" * 100))
      first = nil
      wait_until(15, "messages") { (first = consumer.poll_batch(10, 0.2, max_bytes: 150)).size.positive? }
      expect(first.size).to be <= 2
    end

    it "gives an empty batch when the time is over" do
      consumer = open_consumer(new_topic)
      join(consumer)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      batch = consumer.poll_batch(10, 0.2)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be >= 0.19
      expect([batch.size, batch.to_a, batch.empty?, batch[0]]).to eq [0, [], true, nil]
    end

    it "lets other threads run while it waits: one of them ends the wait" do
      consumer = open_consumer(new_topic)
      join(consumer)
      waiting = Thread.current
      other = Thread.new { wait_until(10, "the poll") { waiting.stop? } && consumer.wakeup }
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      # With the GVL held the other thread would have to wait for all of this time.
      expect(consumer.poll_batch(10, 45)).to be_empty
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 40
      other.join
    end

    it "does not wait for a second whenever librdkafka has had enough in its queue" do
      topic = new_topic
      producer = open_producer("linger.ms": 0)
      # One by one: the broker hands out what came together together.
      10.times { producer.produce(topic: topic, payload: "x" * 1000).wait(10) }
      times = [{}, { "fetch.queue.backoff.ms": 300 }, { "fetch.queue.backoff.ms" => 300 }].map do |settings|
        consumer = keep(SwarmNative::Kafka::Consumer.new({ **consumer_config, "queued.min.messages": 1,
                                                           "fetch.message.max.bytes": 4000 }.merge(settings)))
        consumer.assign(topic => { 0 => 0 })
        take(consumer, 1)
        start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        take(consumer, 9, 60)
        Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
      end
      # Both ways to name a property say that the user wants it otherwise.
      expect(times[1..]).to all be > 2 * times[0]
    end

    it "is ended at once by Thread#raise, Thread#kill and Timeout" do
      consumer = open_consumer(new_topic)
      join(consumer)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      expect { Timeout.timeout(0.1) { consumer.poll_batch(10, 60) } }.to raise_error(Timeout::Error)
      [->(thread) { thread.raise(IOError, "out") }, :kill.to_proc].each do |stop|
        thread = Thread.new { consumer.poll_batch(10, 60) }
        thread.report_on_exception = false
        wait_until(10, "the poll") { thread.stop? }
        stop.call(thread)
        begin
          thread.join
        rescue IOError => e
          expect(e.message).to eq "out"
        end
      end
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 5
      expect(consumer.poll_batch(10, 0)).to be_empty
    end

    it "returns at once when it is woken, from another thread and from a trap handler, and then waits again" do
      consumer = open_consumer(new_topic)
      join(consumer)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      poller = Thread.new { consumer.poll_batch(1, 60) }
      wait_until(10, "the poll") { poller.stop? }
      expect(consumer.wakeup).to equal consumer
      expect(poller.value).to be_empty
      before = trap("USR2") { consumer.wakeup }
      Thread.new { Process.kill(:USR2, Process.pid) }
      expect(consumer.poll_batch(1, 60)).to be_empty
      trap("USR2", before)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 30
      # Woken before it waits, the next one that would wait does not.
      consumer.wakeup
      expect(consumer.poll_batch(1, 60)).to be_empty
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 30
      waited = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      consumer.poll_batch(1, 0.2)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - waited).to be >= 0.19
    end

    it "refuses limits that are none" do
      consumer = open_consumer
      expect { consumer.poll_batch(0) }.to raise_error(ArgumentError, /max is .* not 0/)
      expect { consumer.poll_batch(1, -1) }.to raise_error(ArgumentError, /-1/)
      expect { consumer.poll_batch("all") }.to raise_error(ArgumentError, /max is .* not "all"/)
      expect { consumer.poll_batch(1, 0, max_bytes: 0) }.to raise_error(ArgumentError, /max_bytes is .* not 0/)
    end

    it "tells of a topic that is not there, and goes on" do
      topic = topic_with("a")
      consumer = open_consumer(topic, "no-such-topic-#{Process.pid}")
      errors = []
      payloads = []
      wait_until(15, "an error and a message") do
        begin
          payloads.concat(consumer.poll_batch(10, 0.1).map(&:payload))
        rescue SwarmNative::Kafka::Error => e
          errors << e.name
        end
        errors.any? && payloads.any?
      end
      expect([errors.uniq, payloads]).to eq [[:unknown_topic_or_part], ["a"]]
    end

    it "outlasts a broker that is down" do
      SwarmNative::Kafka::EmbeddedBroker.start(topics: { "t" => 1 }) do |broker|
        consumer = keep(SwarmNative::Kafka::Consumer.new(consumer_config("bootstrap.servers": broker.bootstrap_servers,
                                                                         "reconnect.backoff.max.ms": 100)))
        producer = keep(SwarmNative::Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers,
                                                         "reconnect.backoff.max.ms": 100))
        consumer.subscribe("t")
        producer.produce(topic: "t", payload: "before").wait(10)
        expect(take(consumer, 1).map(&:payload)).to eq ["before"]
        broker.down
        delivery = producer.produce(topic: "t", payload: "after")
        expect(consumer.poll_batch(1, 0.3)).to be_empty
        broker.up
        delivery.wait(20)
        expect(take(consumer, 1).map(&:payload)).to eq ["after"]
        consumer.close
        producer.close
      end
    end
  end

  describe "a batch" do
    it "is an Enumerable with an index" do
      consumer = open_consumer(topic_with("a", "b", "c"), "fetch.min.bytes": 100, "fetch.wait.max.ms": 2000)
      batch = nil
      wait_until(15, "messages") { !(batch = consumer.poll_batch(3, 0.1)).empty? }
      expect([batch.size, batch.length, batch.count, batch.bytesize]).to eq [3, 3, 3, 3]
      expect([batch[0], batch[2], batch[-1], batch.last, batch.first].map(&:payload)).to eq %w[a c c c a]
      expect([batch[3], batch[-4]]).to eq [nil, nil]
      expect(batch.each.size).to eq 3
      expect(batch.each_slice(2).map { |slice| slice.map(&:payload) }).to eq [%w[a b], %w[c]]
      expect(batch.payloads).to eq %w[a b c]
    end

    it "splits into one for each partition, and gives slices" do
      consumer = open_consumer(topic = topic_with(*%w[a b c d e f], partitions: 2))
      join(consumer)
      batch = nil
      pause = 0
      # Until both partitions' messages are there when it polls.
      wait_until(15, "messages of both") do
        consumer.seek(topic => { 0 => :beginning, 1 => :beginning })
        sleep(pause += 0.01)
        (batch = consumer.poll_batch(6, 0.1)).map(&:partition).uniq.size == 2
      end
      parts = batch.by_partition.to_h { |part| [part.partition, part] }
      expect(parts.keys.sort).to eq [0, 1]
      parts.each do |partition, part|
        expected = batch.select { |message| message.partition == partition }
        expect(part.map { |message| [message.topic, message.partition, message.offset, message.payload] })
          .to eq(expected.map { |message| [topic, partition, message.offset, message.payload] })
        expect([part.topic, part.first_offset, part.bytesize]).to eq [topic, expected[0].offset, expected.size]
      end
      part = parts.values.max_by(&:size)
      slice = part.slice(1, 5)
      expect([slice.payloads, slice.size, slice.bytesize, slice[-1]&.payload])
        .to eq [part.payloads.drop(1), part.size - 1, part.size - 1, part.payloads.drop(1).last]
      expect([part.slice(0, 1).payloads, part.slice(9, 1).size, part.slice(0, 0).empty?]).to eq [part.payloads.first(1), 0, true]
      expect(part.slice(0, 2).slice(0, 1).first_offset).to eq part.first_offset
      expect { part.slice(-1, 1) }.to raise_error(ArgumentError, /two Integers from 0 on, not -1 and 1/)
      expect(SwarmNative::Kafka::Consumer.new(consumer_config).tap { |other| keep(other) }.poll_batch(1, 0).by_partition).to eq []
    end

    it "outlives its consumer, and its messages outlive it" do
      consumer = open_consumer(topic_with("a" * 1000))
      message = take(consumer, 1).first
      consumer.close
      GC.start
      GC.compact if GC.respond_to?(:compact)
      expect([message.payload, message.topic.encoding, message.payload_size]).to eq ["a" * 1000, Encoding::UTF_8, 1000]
    end

    it "tells Ruby's collector of its memory" do
      consumer = open_consumer(topic_with(*["x" * 500_000] * 5))
      GC.start
      GC.disable
      before = GC.stat(:malloc_increase_bytes)
      taken = take(consumer, 5)
      told = GC.stat(:malloc_increase_bytes) - before
      expect([taken.size, told]).to match [5, be_between(2_500_000, 6_000_000)]
    ensure
      GC.enable
    end
  end

  describe "offsets" do
    it "commits what is stored, and goes on there" do
      topic = topic_with("a", "b", "c")
      config = consumer_config
      consumer = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      messages = take(consumer, 3)
      expect(consumer.commit).to be_nil
      expect(consumer.store_offset(messages[1])).to equal consumer
      expect(consumer.commit).to eq(topic => { 0 => 2 })
      expect(consumer.commit).to be_nil
      expect(consumer.committed).to eq(topic => { 0 => 2 })
      expect(consumer.position).to eq(topic => { 0 => 3 })
      consumer.close
      again = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      expect(take(again, 1).map(&:payload)).to eq ["c"]
    end

    it "commits messages, batches, and offsets in a Hash" do
      topic = topic_with("a", "b", "c", "d", partitions: 2)
      consumer = open_consumer(topic)
      messages = take(consumer, 4)
      first = messages.find { |message| message.payload == "a" }
      expect(consumer.commit(first)).to eq(topic => { 0 => 1 })
      expect(consumer.commit(messages)).to eq(topic => { 0 => 2, 1 => 2 })
      expect(consumer.commit({ topic => { 1 => 1 } })).to eq(topic => { 1 => 1 })
      expect(consumer.committed).to eq(topic => { 0 => 2, 1 => 1 })
      expect(consumer.commit([])).to be_nil
      expect { consumer.commit(7) }.to raise_error(TypeError, /7/)
    end

    it "commits without waiting when asked to" do
      topic = topic_with("a")
      consumer = open_consumer(topic)
      message = take(consumer, 1).first
      expect(consumer.commit(message, async: true)).to be true
      wait_until(10, "the commit") { consumer.committed == { topic => { 0 => 1 } } }
    end

    it "commits at the close what enable.auto.commit promises" do
      topic = topic_with("a", "b")
      config = consumer_config
      consumer = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      consumer.store_offset(take(consumer, 1).first)
      expect(consumer.close).to be true
      again = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      expect(take(again, 1).map(&:payload)).to eq ["b"]
    end

    it "refuses to store an offset for a partition that it does not have" do
      consumer = open_consumer(new_topic)
      join(consumer)
      expect { consumer.store_offset("elsewhere", 0, 1) }.to kafka_error(:unknown_partition)
    end

    it "refuses to store offsets that librdkafka stores by itself" do
      topic = topic_with("a")
      consumer = open_consumer(topic, "enable.auto.offset.store": true)
      message = take(consumer, 1).first
      expect { consumer.store_offset(message) }.to kafka_error(:invalid_arg)
    end
  end

  describe "the group" do
    it "shares the partitions, and gives them to who is left" do
      topic = new_topic(partitions: 4)
      config = consumer_config
      first, second = Array.new(2) { keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic) }
      wait_until(20, "two partitions each") do
        [first, second].each { |consumer| consumer.poll_batch(1, 0.05) }
        [first, second].map { |consumer| consumer.assignment[topic]&.size } == [2, 2]
      end
      expect(first.close).to be true
      wait_until(20, "all partitions") do
        second.poll_batch(1, 0.05)
        second.assignment == { topic => [0, 1, 2, 3] }
      end
    end

    it "works with the cooperative protocol too" do
      topic = new_topic(partitions: 4)
      config = consumer_config("partition.assignment.strategy": "cooperative-sticky")
      first = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      join(first)
      second = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
      wait_until(20, "two partitions each") do
        [first, second].each { |consumer| consumer.poll_batch(1, 0.05) }
        [first, second].map { |consumer| consumer.assignment[topic]&.size } == [2, 2]
      end
      second.close
      wait_until(20, "all partitions") { first.poll_batch(1, 0.05) && first.assignment == { topic => [0, 1, 2, 3] } }
    end

    { "range" => {}, "cooperative-sticky" => {}, "group.protocol=consumer" => { "group.protocol": "consumer" } }
      .each do |what, config|
      it "gives what was paused when it was taken, once it is back (#{what})" do
        topic = topic_with("a")
        config = consumer_config(**(config.empty? ? { "partition.assignment.strategy": what } : config))
        # In a group of the newer protocol these are the broker's.
        %i[session.timeout.ms heartbeat.interval.ms].each { |name| config.delete(name) } if config[:"group.protocol"]
        consumer = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
        expect(take(consumer, 1).map(&:payload)).to eq %w[a]
        consumer.pause(consumer.assignment)
        consumer.unsubscribe
        wait_until(15, "the revocation") { consumer.poll_batch(1, 0.05) && consumer.assignment.empty? }
        consumer.subscribe(topic)
        expect(take(consumer, 1).map(&:payload)).to eq %w[a]
      end
    end

    it "subscribes to patterns, and leaves its topics" do
      topic = topic_with("a")
      consumer = open_consumer("^#{topic}$")
      expect(consumer.subscription).to eq ["^#{topic}$"]
      expect(take(consumer, 1).first.topic).to eq topic
      expect(consumer.unsubscribe).to equal consumer
      wait_until(10, "no assignment") { consumer.poll_batch(1, 0.05) && consumer.assignment.empty? }
      expect { consumer.subscribe }.to raise_error(ArgumentError, /at least one topic/)
    end
  end

  describe "closing" do
    it "turns out a thread that polls, and refuses every call afterwards" do
      consumer = open_consumer(new_topic)
      join(consumer)
      poller = Thread.new { consumer.poll_batch(1, 60) }
      poller.report_on_exception = false
      wait_until(10, "the poll") { poller.stop? }
      expect(consumer.close).to be true
      expect { poller.value }.to raise_error(SwarmNative::ClosedHandle)
      expect(consumer).to be_closed
      expect(consumer.close).to be true
      [-> { consumer.poll_batch }, -> { consumer.commit }, -> { consumer.assignment }, -> { consumer.subscribe("a") },
       -> { consumer.position }, -> { consumer.committed }, -> { consumer.store_offset("a", 0, 1) }].each do |call|
        expect(&call).to raise_error(SwarmNative::ClosedHandle, "this SwarmNative::Kafka::Consumer is closed")
      end
    end

    it "keeps its deadline with a broker that is dead" do
      consumer = keep(SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g"))
      consumer.subscribe("t")
      consumer.poll_batch(1, 0.05)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      consumer.close(1.0)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 5
    end
  end

  it "needs a group.id" do
    expect { SwarmNative::Kafka::Consumer.new("bootstrap.servers": "x") }
      .to raise_error(SwarmNative::ConfigurationError, "group.id: a consumer needs one")
  end
end
