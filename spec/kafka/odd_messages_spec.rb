# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"
require_relative "../support/on_real_kafka"

RSpec.describe "what is odd about messages and topics" do
  next unless SwarmNative::Kafka.available?

  def kafka_error(name)
    raise_error(an_instance_of(SwarmNative::Kafka::Error).and(have_attributes(name: name)))
  end

  def with_admin
    admin = SwarmNative::Kafka::Admin.new("bootstrap.servers": bootstrap_servers)
    yield admin
  ensure
    admin.close
  end

  describe "on a real Kafka", :kafka, :real_kafka do
    # @return [String] of one partition
    def topic_of(config = {})
      topic = new_topic
      with_admin do |admin|
        admin.create_topic(topic, partitions: 1, config: config)
        wait_until(10, "the topic") { admin.topics.key?(topic) }
      end
      topic
    end

    megabyte = 1024 * 1024

    describe "messages of 10 MB" do
      let(:topic) { topic_of("max.message.bytes" => 12 * megabyte) }
      let(:big) { Random.bytes(10 * megabyte) }

      it "pass beside empty ones, tombstones and odd headers, in their order" do
        headers = [["a", "1"], ["", "no name"], ["a", nil], ["\xff\xfe", "\x00\xff"], ["a", "1"], ["b", ""]]
        sent = [[nil, nil, []], ["", "", headers], [big, "big", []], [nil, "tombstone", headers], ["", nil, []],
                [big.reverse, big[0, 1000], []]]
        producer = open_producer("message.max.bytes": 12 * megabyte)
        hashes = sent.map { |payload, key, pairs| { topic: topic, payload: payload, key: key, headers: pairs } }
        producer.produce_many(hashes).wait(60)
        taken = take(open_consumer(topic), sent.size, 30)
        binary = ->(pairs) { pairs.map { |pair| pair.map { |text| text&.b } } }
        expect(taken.map { |message| [message.payload, message.key, binary.call(message.header_pairs)] } ==
               sent.map { |payload, key, pairs| [payload, key, binary.call(pairs)] }).to be true
        expect(taken.map(&:payload_size)).to eq [0, 0, 10 * megabyte, 0, 0, 10 * megabyte]
        expect(taken[1].headers).to eq("a" => ["1", nil, "1"], "" => "no name", "\xff\xfe".b => "\x00\xff".b, "b" => "")
      end

      it "are refused by the broker where the topic is for smaller ones, and others pass" do
        topic = topic_of("max.message.bytes" => megabyte)
        producer = open_producer("message.max.bytes": 12 * megabyte, "linger.ms": 0)
        expect { producer.produce(topic: topic, payload: big).wait(30) }.to kafka_error(:msg_size_too_large)
        expect(producer.produce(topic: topic, payload: "small").wait(30).offset).to eq 0
      end

      it "go through a processor one by one when max_bytes is less than one has" do
        messages = Array.new(3) { |i| { topic: topic, payload: big, key: i.to_s } }
        open_producer("message.max.bytes": 12 * megabyte).produce_many(messages).wait(60)
        config = consumer_config.reject { |name, _| name == :"enable.auto.offset.store" }
        processor = SwarmNative::Kafka::Processor.new(config: config, topics: topic, max_bytes: megabyte, max_wait: 0.0)
        keys = []
        runner = Thread.new do
          processor.run do |batch|
            keys.concat(batch.map { |message| [message.key, message.payload == big] })
            processor.stop if keys.size >= 3
          end
        end
        expect(runner.join(60)).to be runner
        expect(keys).to eq [["0", true], ["1", true], ["2", true]]
      end
    end

    it "a topic that is deleted while it is consumed is told of by a poll, others go on, and it may come back" do
      topic, other = topic_of, topic_of
      producer = open_producer
      fill = ->(name, payload) { producer.produce(topic: name, payload: payload).wait(30) }
      fill.call(topic, "before")
      consumer = open_consumer(topic, other, "topic.metadata.refresh.interval.ms": 500)
      expect(take(consumer, 1, 30).map(&:payload)).to eq ["before"]

      with_admin { |admin| admin.delete_topic(topic) }
      fill.call(other, "beside")
      errors, payloads = [], []
      poll = lambda do
        consumer.poll(0.1)&.then { |message| payloads << message.payload }
      rescue SwarmNative::Kafka::Error => e
        errors << e
      end
      wait_until(30, "the error and the other topic's message") { poll.call && false || (errors.any? && payloads.any?) }
      expect(errors.map(&:name).uniq).to eq [:unknown_topic_or_part]
      expect(payloads).to eq ["beside"]

      with_admin do |admin|
        wait_until(10, "the new topic") do
          admin.create_topic(topic, partitions: 1)
        rescue SwarmNative::Kafka::Error
          false # the old one is still being deleted
        end
      end
      with_admin { |admin| wait_until(10, "the topic") { admin.topics.key?(topic) } }
      # One that does not remember the topic as gone.
      open_producer.produce(topic: topic, payload: "after").wait(30)
      wait_until(40, "the new topic's message") { poll.call && false || payloads.include?("after") }
      expect(consumer.close).to be true
    end
  end

  it "ten thousand partitions are assigned, paused, sought and left, without a broker too" do
    consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "many")
    many = Array.new(10) { |i| ["topic-#{i}", (0...1000).to_a] }.to_h
    consumer.assign(many)
    expect(consumer.assignment.transform_values(&:sort)).to eq many
    consumer.pause(many)
    consumer.resume(many)
    expect(consumer.position.sum { |_, partitions| partitions.size }).to be <= 10_000
    expect(consumer.poll_batch(10, 0.1)).to be_empty
    consumer.assign(many.transform_values { |partitions| partitions.first(1) })
    expect(consumer.assignment.values.flatten.size).to eq 10
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    consumer.close(5)
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 15
  end
end
