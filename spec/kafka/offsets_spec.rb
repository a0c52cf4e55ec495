# frozen_string_literal: true

require "spec_helper"
require "timeout"
require_relative "../support/kafka_broker"
require_relative "../support/on_real_kafka"

RSpec.describe "SwarmNative::Kafka::Offsets", :kafka do
  let(:topic) { new_topic(partitions: 2) }
  let(:producer) { open_producer }

  def fill(*payloads, partition: 0, **more)
    payloads.each { |payload| producer.produce(topic: topic, payload: payload, partition: partition, **more).wait(10) }
  end

  def assigned(partitions)
    open_consumer.assign(partitions)
  end

  def texts(consumer, count) = take(consumer, count).map(&:payload)

  describe "#assign" do
    it "takes partitions by hand, from an offset, a place, or the committed offset" do
      fill("a", "b", "c")
      fill("x", "y", partition: 1)
      expect(texts(assigned(topic => { 0 => 1 }), 2)).to eq %w[b c]
      expect(texts(assigned(topic => { 1 => :beginning }), 2)).to eq %w[x y]
      ends = []
      at_end = open_consumer("enable.partition.eof": true).on_end { |*place| ends << place }.assign(topic => { 0 => :end })
      # Until then the end may be that of later.
      wait_until(15, "the end") { at_end.poll_batch(10, 0.05).empty? && ends.any? }
      expect(ends).to eq [[topic, 0, 3]]
      expect(at_end.assignment).to eq(topic => [0])
      fill("d")
      expect(texts(at_end, 1)).to eq %w[d]
      config = consumer_config
      first = keep(SwarmNative::Kafka::Consumer.new(config)).assign(topic => [0])
      first.commit(take(first, 1))
      first.close
      expect(texts(keep(SwarmNative::Kafka::Consumer.new(config)).assign(topic => [0]), 3)).to eq %w[b c d]
    end

    it "refuses what are no partitions" do
      consumer = open_consumer
      expect { consumer.assign([topic]) }.to raise_error(TypeError, /a Hash by topic/)
      expect { consumer.assign(topic => { 0 => :middle }) }.to raise_error(ArgumentError, /:middle is no place/)
      expect { consumer.assign(topic => ["0"]) }.to raise_error(TypeError)
    end
  end

  it "#poll gives one message, or nil when none came in time" do
    fill("a", "b")
    consumer = assigned(topic => [0])
    found = []
    wait_until(15, "two messages") { (found << consumer.poll(0.2)).compact.size >= 2 }
    expect(found.compact.map(&:payload)).to eq %w[a b]
    expect(consumer.poll(0)).to be_nil
  end

  it "#each_batch goes on until the block closes, or another thread" do
    fill("a", "b")
    consumer = assigned(topic => [0])
    seen = []
    expect(consumer.each_batch { |batch| seen.concat(batch.payloads); consumer.close if seen.size >= 2 }).to equal consumer
    expect(seen).to eq %w[a b]

    waiting = assigned(topic => { 0 => :end })
    thread = Thread.new { waiting.each_batch { |batch| raise batch.inspect } }
    wait_until(10, "the poll") { thread.stop? }
    waiting.close
    expect(thread.value).to equal waiting
  end

  describe "#pause and #resume" do
    it "stop and go on with a partition, beside others" do
      fill("a")
      fill("x", partition: 1)
      consumer = assigned(topic => [0, 1])
      consumer.pause(topic => [0])
      expect(texts(consumer, 1)).to eq %w[x]
      expect(consumer.poll_batch(10, 0.3)).to be_empty
      consumer.resume(topic => [0])
      expect(texts(consumer, 1)).to eq %w[a]
    end

    it "refuse a partition that is not the member's" do
      expect { assigned(topic => [0]).pause("elsewhere" => [3]) }.to raise_error(SwarmNative::Kafka::Error, %r{elsewhere/3})
    end
  end

  describe "#seek" do
    it "goes to a message, an offset and a place" do
      %w[a b c].each_with_index { |payload, i| fill(payload, timestamp: 1_700_000_000_000 + (i * 1000)) }
      consumer = assigned(topic => [0])
      messages = take(consumer, 3)
      expect(texts(consumer.seek(messages[1]), 2)).to eq %w[b c]
      expect(texts(consumer.seek(topic => { 0 => 2 }), 1)).to eq %w[c]
      expect(texts(consumer.seek(topic => { 0 => :beginning }), 3)).to eq %w[a b c]
    end

    it "refuses a partition that is not the member's" do
      expect { open_consumer.seek({ "elsewhere" => { 0 => 1 } }, timeout: 1) }.to raise_error(SwarmNative::Kafka::Error)
    end
  end

  it "#watermarks, #committed and #lag tell where things stand" do
    fill("a", "b", "c")
    consumer = assigned(topic => [0, 1])
    messages = take(consumer, 3)
    expect(consumer.watermarks(topic, 0)).to eq [0, 3]
    expect(consumer.watermarks(topic, 1)).to eq [0, 0]
    expect(consumer.lag).to eq(topic => { 0 => 3, 1 => 0 })
    consumer.commit(messages[1])
    expect(consumer.committed).to eq(topic => { 0 => 2 })
    expect(consumer.lag).to eq(topic => { 0 => 1, 1 => 0 })
    expect(consumer.position).to eq(topic => { 0 => 3 })
    expect { consumer.watermarks("no-such-topic", 0, timeout: 2) }.to raise_error(SwarmNative::Kafka::Error)
  end

  describe "on a real Kafka", :real_kafka do
    let(:topic) { new_topic }
    let(:start) { Time.at(1_700_000_000) }

    it "finds the first message from a moment on, goes there, and to the end where there is none" do
      %w[a b c].each_with_index { |payload, i| fill(payload, timestamp: start + i) }
      # Committed offsets are not asked for: a group's coordinator may not be there yet.
      consumer = assigned(topic => { 0 => :beginning })
      expect(texts(consumer, 3)).to eq %w[a b c]
      expect(consumer.offsets_for_times(topic => { 0 => start + 0.5 })).to eq(topic => { 0 => 1 })
      expect(consumer.offsets_for_times({ topic => { 0 => start + 60, 1 => start } }, timeout: 10)).to eq({})
      expect(texts(consumer.seek(topic => { 0 => start + 0.5 }), 2)).to eq %w[b c]
      consumer.seek({ topic => { 0 => start + 60 } }, timeout: 10)
      fill("d")
      expect(texts(consumer, 1)).to eq %w[d]
      expect { consumer.offsets_for_times(topic => { 0 => 5 }) }.to raise_error(TypeError, "a moment is a Time, not 5")
    end

    it "knows the leader's epoch of a message" do
      fill("a")
      expect(take(assigned(topic => { 0 => :beginning }), 1).first.leader_epoch).to be >= 0
    end
  end

  it "asks that wait for a broker are ended at once by an interrupt" do
    consumer = keep(SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g"))
    consumer.assign("t" => [0])
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    [-> { consumer.committed(4) }, -> { consumer.watermarks("t", 0, timeout: 4) }, -> { consumer.lag(4) }].each do |ask|
      expect { Timeout.timeout(0.1) { ask.call } }.to raise_error(Timeout::Error)
    end
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 3
    expect { consumer.committed(-1) }.to raise_error(ArgumentError, /-1/)
    consumer.close(0)
  end
end
