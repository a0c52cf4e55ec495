# frozen_string_literal: true

require "spec_helper"
require "timeout"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Producer#produce_many", :kafka do
  let(:topic) { new_topic(partitions: 2) }
  let(:producer) { open_producer }

  def open_dead(**more)
    keep SwarmNative::Kafka::Producer.new({ "bootstrap.servers": "127.0.0.1:1" }, **more)
  end

  it "sends all, with what each Hash says, and tells of each" do
    other = new_topic
    time = Time.at(1_700_000_000, 7, :millisecond)
    deliveries = producer.produce_many(
      [{ topic: topic, payload: "a", key: "k", partition: 1, headers: { "h" => "1" }, timestamp: time },
       { topic: topic, payload: nil, partition: 1, timestamp: 1_700_000_000_000, headers: nil, key: nil },
       { topic: other, payload: "c" }]
    )
    expect(deliveries.wait(10)).to equal deliveries
    expect(deliveries).to be_delivered
    expect([deliveries.size, deliveries.pending, deliveries.failed]).to eq [3, 0, []]
    expect(deliveries.map { |delivery| [delivery.topic, delivery.partition, delivery.offset] })
      .to eq [[topic, 1, 0], [topic, 1, 1], [other, 0, 0]]
    expect([deliveries[-1].topic, deliveries[3]]).to eq [other, nil]
    messages = take(open_consumer(topic), 2)
    expect(messages.map { |m| [m.payload, m.key, m.headers, m.timestamp_ms] })
      .to eq [["a", "k", { "h" => "1" }, 1_700_000_000_007], [nil, nil, {}, 1_700_000_000_000]]
  end

  it "keeps the order within a partition, over a queue that is too small for all" do
    small = open_producer("queue.buffering.max.messages": 100, "linger.ms": 1)
    deliveries = small.produce_many(Array.new(2000) { |i| { topic: topic, payload: i.to_s, partition: 0 } })
    deliveries.wait(30)
    expect(deliveries.map(&:offset)).to eq((0...2000).to_a)
    expect(take(open_consumer(topic), 2000).map { |message| Integer(message.payload) }).to eq((0...2000).to_a)
  end

  it "takes none, and answers at once" do
    expect(producer.produce_many([]).wait(0).to_a).to eq []
  end

  it "queues nothing when one of the Hashes cannot be" do
    good = { topic: topic, payload: "x" }
    [[{ payload: "x" }, ArgumentError, /a message has a topic/], [{ topic: "" }, ArgumentError, /not ""/],
     [{ topic: topic, payload: 1 }, TypeError, /String/], [{ topic: topic, paylaod: "x" }, ArgumentError, /no paylaod/],
     [{ topic: topic, timestamp: :now }, NoMethodError, /to_r/], [7, TypeError, /a message is a Hash, not 7/]]
      .each do |bad, error, message|
      expect { producer.produce_many([good, bad]) }.to raise_error(error, message)
    end
    expect { producer.produce_many(good) }.to raise_error(TypeError)
    expect(producer.queue_size).to eq 0
  end

  it "tells of the messages that are refused, and sends the others" do
    small = open_producer("message.max.bytes": 1000)
    deliveries = small.produce_many([{ topic: topic, payload: "a" }, { topic: topic, payload: "x" * 2000 },
                                     { topic: topic, payload: "c" }])
    expect { deliveries.wait(10) }.to raise_error(SwarmNative::Kafka::Error, /msg_size_too_large/)
    expect(deliveries.map(&:delivered?)).to eq [true, false, true]
    expect(deliveries.failed.map { |delivery| delivery.error.name }).to eq [:msg_size_too_large]
    expect(deliveries).not_to be_delivered
  end

  it "gives up those that find no room in time" do
    deliveries = open_dead("queue.buffering.max.messages": 2, queue_timeout: 0.2)
                 .produce_many(Array.new(5) { { topic: "t", payload: "x" } })
    expect(deliveries.failed.map { |delivery| delivery.error.name }).to eq [:queue_full] * 3
    expect(deliveries.pending).to eq 2
  end

  it "can be interrupted while it waits for room, and while all are waited for" do
    full = open_dead("queue.buffering.max.messages": 2)
    many = Array.new(5) { { topic: "t", payload: "x" } }
    expect { Timeout.timeout(0.2) { full.produce_many(many) } }.to raise_error(Timeout::Error)
    pending = open_dead.produce_many(many)
    expect { Timeout.timeout(0.2) { pending.wait } }.to raise_error(Timeout::Error)
    expect { pending.wait(0.05) }.to raise_error(SwarmNative::Kafka::Error, /timed_out/)
  end

  it "refuses after the close" do
    producer.close
    expect { producer.produce_many([]) }.to raise_error(SwarmNative::ClosedHandle)
  end
end
