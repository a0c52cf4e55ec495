# frozen_string_literal: true

require "spec_helper"
require "timeout"
require "zlib"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Producer", :kafka do
  # A port that nothing listens on.
  let(:dead_broker) { "127.0.0.1:1" }

  def open_dead(**more)
    keep SwarmNative::Kafka::Producer.new({ "bootstrap.servers": dead_broker }, **more)
  end

  def kafka_error(name)
    raise_error(an_instance_of(SwarmNative::Kafka::Error).and(have_attributes(name: name)))
  end

  def seconds
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  end

  it "delivers a message and says where" do
    topic = new_topic
    producer = open_producer
    delivery = producer.produce(topic: topic, payload: "first")
    expect(delivery.wait(10)).to equal delivery
    expect(delivery).to be_delivered
    expect([delivery.topic, delivery.partition, delivery.offset, delivery.error]).to eq [topic, 0, 0, nil]
    expect(producer.produce(topic: topic, payload: "second").wait(10).offset).to eq 1
    expect(producer.close).to eq({})
  end

  it "carries bytes, keys, headers and timestamps as they are" do
    topic = new_topic(partitions: 2)
    bytes = (0..255).map(&:chr).join.b
    open_producer.produce(topic: topic, payload: bytes, key: bytes, partition: 1, timestamp: 1_700_000_000_123,
                          headers: { "a" => "1", "b\xff" => nil, many: ["x", "", nil] }).wait(10)
    message = take(open_consumer(topic), 1).first
    expect(message.payload).to eq bytes
    expect(message.key).to eq bytes
    expect(message.payload.encoding).to eq Encoding::BINARY
    expect(message.payload).to be_frozen
    expect([message.topic, message.partition, message.offset]).to eq [topic, 1, 0]
    expect(message.timestamp_ms).to eq 1_700_000_000_123
    expect(message.timestamp).to eq Time.at(1_700_000_000, 123, :millisecond)
    expect(message.headers).to eq("a" => "1", "b\xff".b => nil, "many" => ["x", "", nil])
    expect(message.header_pairs).to eq [["a", "1"], ["b\xff".b, nil], ["many", "x"], ["many", ""], ["many", nil]]
  end

  it "takes headers as pairs, and a Time as the timestamp" do
    topic = new_topic
    time = Time.at(1_700_000_000, 5, :millisecond)
    open_producer.produce(topic: topic, payload: "", headers: [%w[b 1], %w[a 2], %w[b 3]], timestamp: time).wait(10)
    message = take(open_consumer(topic), 1).first
    expect(message.header_pairs).to eq [%w[b 1], %w[a 2], %w[b 3]]
    expect(message.headers).to eq("b" => %w[1 3], "a" => "2")
    expect(message.timestamp).to eq time
  end

  it "tells a tombstone from an empty payload, and no key from an empty key" do
    topic = new_topic
    producer = open_producer
    producer.produce(topic: topic, payload: nil, key: nil)
    producer.produce(topic: topic, payload: "", key: "").wait(10)
    messages = take(open_consumer(topic), 2)
    expect(messages.map { |message| [message.payload, message.key] }).to eq [[nil, nil], ["", ""]]
  end

  it "sends what is queued without waiting for linger.ms when it flushes" do
    topic = new_topic
    producer = open_producer("linger.ms": 60_000)
    deliveries = Array.new(3) { |i| producer.produce(topic: topic, payload: i.to_s) }
    expect(producer.queue_size).to eq 3
    expect(producer.flush(10)).to be true
    expect(deliveries).to all be_delivered
    expect(producer.queue_size).to eq 0
  end

  describe "arguments" do
    let(:producer) { open_dead }

    [
      [{ topic: nil }, TypeError, /String/],
      [{ topic: "" }, ArgumentError, /a topic's name is a String of UTF-8, not ""/],
      [{ topic: "a\xff" }, ArgumentError, /a topic's name/],
      [{ topic: "t", payload: 1 }, TypeError, /String/],
      [{ topic: "t", key: :k }, TypeError, /String/],
      [{ topic: "t", partition: "1" }, TypeError, /Integer/],
      [{ topic: "t", headers: "a" }, TypeError, /headers are a Hash.* and "a" is neither/],
      [{ topic: "t", headers: { "a" => 1 } }, TypeError, /headers are a Hash.* and 1 is neither/],
      [{ topic: "t", headers: [["a"]] }, TypeError, /headers are a Hash.* and \["a"\] is neither/],
      [{ topic: "t", headers: { "a\0b" => "1" } }, ArgumentError, /NUL/],
      [{ topic: "t", timestamp: "now" }, TypeError, /Integer/]
    ].each do |arguments, error, message|
      it "refuses #{arguments}" do
        expect { producer.produce(payload: "x", **arguments) }.to raise_error(error, message)
        expect(producer.queue_size).to eq 0
      end
    end

    it "refuses timeouts that are none" do
      expect { producer.flush(-1) }.to raise_error(ArgumentError, /-1/)
      expect { producer.flush(Float::NAN) }.to raise_error(ArgumentError, /NaN/i)
      expect { producer.flush("soon") }.to raise_error(TypeError)
    end
  end

  describe "configuration" do
    it "names every property that cannot be, and proposes what was meant" do
      expect do
        SwarmNative::Kafka::Producer.new("bootstrap.servrs": "x", "linger.ms" => "soon", "acks" => nil)
      end.to raise_error(SwarmNative::ConfigurationError) { |error|
        expect(error.message).to include "bootstrap.servrs: librdkafka has no such property; " \
                                         "did you mean bootstrap.servers?"
        expect(error.message).to include 'linger.ms: "soon" is not allowed; allowed: 0 .. 900000'
        expect(error.message).to include "acks: nil is not allowed"
      }
    end

    it "does not repeat a secret" do
      expect { SwarmNative::Kafka::Producer.new("sasl.passwrd": "hunter2", "ssl.key.password": "hunter\0") }
        .to raise_error(SwarmNative::ConfigurationError) { |error| expect(error.message).not_to include "hunter" }
    end

    it "refuses properties that librdkafka refuses together" do
      expect { SwarmNative::Kafka::Producer.new("enable.idempotence": true, acks: 0) }
        .to raise_error(SwarmNative::ConfigurationError, /idempotence/)
      expect(SwarmNative::ForkGuard.live_handles).to be_empty if SwarmNative::ForkGuard.respond_to?(:live_handles)
    end

    it "takes numbers, booleans, symbols and arrays" do
      producer = keep SwarmNative::Kafka::Producer.new(
        { "bootstrap.servers" => [dead_broker, "127.0.0.1:2"], "linger.ms" => 1.5 },
        "enable.idempotence": true, "compression.type": :zstd, "client.id": "me"
      )
      expect(producer.name).to start_with "me#producer-"
    end
  end

  describe "failures" do
    it "refuses a message that is too large at once" do
      expect { open_dead("message.max.bytes": 1000).produce(topic: "t", payload: "x" * 2000) }
        .to kafka_error(:msg_size_too_large)
    end

    it "fails a message for a topic that is not there" do
      producer = open_producer("allow.auto.create.topics": false, "topic.metadata.propagation.max.ms": 0)
      delivery = nil
      # At once where the broker's answer is there by then.
      expect { (delivery = producer.produce(topic: "no-such-topic-#{Process.pid}", payload: "x")).wait(10) }
        .to raise_error(SwarmNative::Kafka::Error) { |error|
          expect(error.name).to eq(:unknown_topic).or eq(:unknown_topic_or_part)
        }
      expect(delivery&.delivered?).to be_falsy
    end

    it "fails a message for a partition that is not there" do
      delivery = open_producer.produce(topic: new_topic, payload: "x", partition: 7)
      expect { delivery.wait(10) }.to kafka_error(:unknown_partition)
    end

    it "fails a message that no broker takes in time, and says why" do
      delivery = open_dead("message.timeout.ms": 300).produce(topic: "t", payload: "x")
      expect { delivery.wait(0) }.to kafka_error(:timed_out)
      expect(delivery).to be_pending
      expect { delivery.wait(10) }.to kafka_error(:msg_timed_out)
      expect(delivery.error.message).to match(/the message for t was not delivered: .* \(msg_timed_out\)/)
      expect([delivery.offset, delivery.delivered?]).to eq [nil, false]
    end

    it "passes a topic's error on" do
      topic = new_topic
      KafkaBroker.shared.fail_topic(topic, 29)
      producer = open_producer("message.timeout.ms": 5000)
      # At once, where librdkafka has heard of it by then.
      expect { producer.produce(topic: topic, payload: "x").wait(10) }.to kafka_error(:topic_authorization_failed)
    end

    it "says at the close what was not delivered" do
      producer = open_dead
      deliveries = %w[a b a].map { |topic| producer.produce(topic: topic, payload: "x") }
      expect(producer.flush(0.05)).to be false
      expect(producer.close(0.05)).to eq("a" => 2, "b" => 1)
      expect(deliveries.map { |delivery| delivery.error.name }).to all eq :purge_queue
      expect { deliveries.first.wait }.to kafka_error(:purge_queue)
    end

    it "gives up what is queued when it is purged" do
      producer = open_dead
      delivery = producer.produce(topic: "t", payload: "x")
      producer.purge
      expect { delivery.wait(10) }.to kafka_error(:purge_queue)
    end
  end

  it "chooses partitions by the partitioner, from the key" do
    topic = new_topic(partitions: 4)
    producer = open_producer(partitioner: "consistent")
    keys = %w[alice bob carol dave erin frank]
    chosen = keys.map { |key| producer.produce(topic: topic, payload: "x", key: key).wait(10).partition }
    # librdkafka's "consistent" is the key's CRC32 by the number of partitions.
    expect(chosen).to eq(keys.map { |key| Zlib.crc32(key) % 4 })
    expect(chosen.uniq.size).to be > 1
  end

  describe "a full queue" do
    def full(**more)
      open_dead("queue.buffering.max.messages": 2, **more).tap do |producer|
        2.times { producer.produce(topic: "t", payload: "x") }
      end
    end

    it "raises at once when asked to" do
      producer = full(queue_timeout: 0)
      expect { producer.produce(topic: "t", payload: "x") }.to kafka_error(:queue_full)
    end

    it "waits with the GVL given away, up to the deadline" do
      producer = full(queue_timeout: 0.3)
      ran = 0
      other = Thread.new { loop { ran += 1; Thread.pass } }
      waited = seconds { expect { producer.produce(topic: "t", payload: "x") }.to kafka_error(:queue_full) }
      other.kill
      expect(waited).to be_between(0.29, 5)
      expect(ran).to be > 100
    end

    it "goes on as soon as there is room" do
      topic = new_topic
      producer = open_producer("queue.buffering.max.messages": 2, "linger.ms": 10)
      deliveries = Array.new(20) { |i| producer.produce(topic: topic, payload: i.to_s) }
      deliveries.each { |delivery| delivery.wait(10) }
      expect(take(open_consumer(topic), 20).map(&:payload)).to eq Array.new(20, &:to_s)
    end

    it "can be interrupted" do
      producer = full(queue_timeout: 60)
      waited = seconds do
        expect { Timeout.timeout(0.1) { producer.produce(topic: "t", payload: "x") } }.to raise_error(Timeout::Error)
      end
      expect(waited).to be < 5
    end

    it "turns the waiter out when another thread closes" do
      producer = full(queue_timeout: 60)
      waiter = Thread.new { producer.produce(topic: "t", payload: "x") }
      waiter.report_on_exception = false
      wait_until(10, "waiter") { waiter.stop? }
      producer.close(0)
      expect { waiter.value }.to raise_error(SwarmNative::ClosedHandle)
    end
  end

  describe "waiting" do
    it "is ended by Thread#raise, Thread#kill and Timeout, at once" do
      delivery = open_dead.produce(topic: "t", payload: "x")
      waited = seconds do
        expect { Timeout.timeout(0.1) { delivery.wait(60) } }.to raise_error(Timeout::Error)
        [->(thread) { thread.raise(IOError, "out") }, :kill.to_proc].each do |stop|
          thread = Thread.new { delivery.wait(60) }
          thread.report_on_exception = false
          wait_until(10, "waiter") { thread.stop? }
          stop.call(thread)
          begin
            thread.join
          rescue IOError => e
            expect(e.message).to eq "out"
          end
        end
      end
      expect(waited).to be < 5
    end

    it "lets a flush be interrupted" do
      producer = open_dead
      producer.produce(topic: "t", payload: "x")
      expect { Timeout.timeout(0.1) { producer.flush } }.to raise_error(Timeout::Error)
    end
  end

  describe "after the close" do
    it "refuses every call, and closing again is allowed" do
      producer = open_dead
      expect(producer.close(0)).to eq({})
      expect(producer).to be_closed
      expect(producer.close).to eq({})
      [-> { producer.produce(topic: "t", payload: "x") }, -> { producer.flush }, -> { producer.queue_size },
       -> { producer.purge }].each do |call|
        expect(&call).to raise_error(SwarmNative::ClosedHandle, "this SwarmNative::Kafka::Producer is closed")
      end
    end
  end

  it "is used by many threads at once" do
    topic = new_topic(partitions: 3)
    producer = open_producer
    threads = Array.new(8) do |t|
      Thread.new { Array.new(200) { |i| producer.produce(topic: topic, payload: "#{t}-#{i}") }.each { |d| d.wait(20) } }
    end
    deliveries = threads.flat_map(&:value)
    expect(deliveries.map { |delivery| [delivery.partition, delivery.offset] }.uniq.size).to eq 1600
    expect(take(open_consumer(topic), 1600).map(&:payload).uniq.size).to eq 1600
  end

  it "can be subclassed" do
    subclass = Class.new(SwarmNative::Kafka::Producer) { def shout(text) = produce(topic: "t", payload: text.upcase) }
    producer = keep subclass.new("bootstrap.servers": dead_broker)
    expect(producer.shout("x")).to be_pending
  end
end
