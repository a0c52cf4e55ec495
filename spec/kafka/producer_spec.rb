# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Producer", :kafka do
  it "delivers a message and says where", :gc_stress do
    topic = new_topic
    producer = open_producer
    delivery = producer.produce(topic: topic, payload: "first")
    expect(delivery.wait(10)).to equal delivery
    expect(delivery).to be_delivered
    expect([delivery.topic, delivery.partition, delivery.offset, delivery.error]).to eq [topic, 0, 0, nil]
    expect(producer.produce(topic: topic, payload: "second").wait(10).offset).to eq 1
    expect(producer.close).to eq({})
  end

  it "carries bytes, keys, headers and timestamps as they are", :gc_stress do
    topic = new_topic(partitions: 2)
    bytes = (0..255).map(&:chr).join.b
    open_producer.produce(topic: topic, payload: bytes, key: bytes, partition: 1, timestamp: 1_700_000_000_123,
                          headers: { "a" => "1", "b\xff" => nil, "many" => ["x", "", nil] }).wait(10)
    message = take(open_consumer(topic), 1).first
    expect(message.payload).to eq bytes
    expect(message.key).to eq bytes
    expect(message.payload.encoding).to eq Encoding::BINARY
    expect(message.payload).to be_frozen
    expect([message.topic, message.partition, message.offset]).to eq [topic, 1, 0]
    expect(message.timestamp_ms).to eq 1_700_000_000_123
    expect(message.headers).to eq("a" => "1", "b\xff".b => nil, "many" => ["x", "", nil])
  end

  it "tells a tombstone from an empty payload, and no key from an empty key" do
    topic = new_topic
    producer = open_producer
    producer.produce(topic: topic, payload: nil, key: nil)
    producer.produce(topic: topic, payload: "", key: "").wait(10)
    messages = take(open_consumer(topic), 2)
    expect(messages.map { |message| [message.payload, message.key] }).to eq [[nil, nil], ["", ""]]
  end
end
