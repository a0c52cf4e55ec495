# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/processors"

RSpec.describe "SwarmNative::Kafka::Processor", :kafka do
  include_context "with processors"

  describe "consuming" do
    it "hands out each message once, each partition in order, and commits what is done" do
      topic = topic_with((0...400).map(&:to_s), partitions: 4)
      seen = Queue.new
      processor = processor(topic, max_batch: 7)
      start(processor) { |batch| batch.each { |message| seen << [batch.partition, message.payload.to_i] } }
      wait_until(30, "all messages") { seen.size >= 400 }
      expect(stop(processor)).to equal processor
      all = Array.new(seen.size) { seen.pop }
      expect(all.map(&:last).sort).to eq((0...400).to_a)
      all.group_by(&:first).each { |partition, some| expect(some.map(&:last)).to eq((partition...400).step(4).to_a) }
      expect(committed(topic)).to eq(0 => 100, 1 => 100, 2 => 100, 3 => 100)
      expect(named(:consumed).sum(&:size)).to eq 400
      expect(named(:consumed).map(&:size).max).to be <= 7
    end

    it "works on partitions side by side, and on one by one at a time" do
      topic = topic_with(%w[a b c d e f g h], partitions: 4)
      lock = Mutex.new
      inside = Hash.new(0)
      most = 0
      twice = false
      open = false
      start(processor(topic, concurrency: 4, max_batch: 1)) do |batch|
        lock.synchronize do
          twice ||= (inside[batch.partition] += 1) > 1
          most = [most, inside.values.sum].max
        end
        wait_until(20, "the gate") { open }
        lock.synchronize { inside[batch.partition] -= 1 }
      end
      wait_until(20, "four at once") { most == 4 }
      open = true
      wait_until(20, "the rest") { named(:consumed).sum(&:size) == 8 }
      expect(twice).to be false
    end

    it "gives a batch what a batch has" do
      topic = topic_with(%w[a b c])
      seen = Queue.new
      start(processor(topic, max_wait: 1.0)) do |batch|
        seen << [batch.topic, batch.partition, batch.size, batch.map(&:payload), batch.payloads, batch[0].payload,
                 batch[-1].payload, batch[3], batch[-4], batch.last.payload, batch.first_offset, batch.last_offset,
                 batch.attempt, batch.bytesize, batch.revoked?, batch.stopping?]
      end
      expect(wait_until(20) { !seen.empty? && seen.pop })
        .to eq [topic, 0, 3, %w[a b c], %w[a b c], "a", "c", nil, nil, "c", 0, 2, 1, 3, false, false]
    end

    it "waits for a batch to fill for as long as max_wait says, and no longer" do
      topic = topic_with(%w[a b])
      seen = Queue.new
      start(processor(topic, max_batch: 3, max_wait: 60.0)) { |batch| seen << batch.payloads }
      wait_until(20, "an assignment") { named(:assigned).any? }
      expect(seen).to be_empty
      fill(topic, %w[c])
      expect(wait_until(20) { !seen.empty? && seen.pop }).to eq %w[a b c]
    end

    it "keeps its place in the group during a job that is longer than max.poll.interval.ms" do
      topic = topic_with(%w[a], partitions: 2)
      start_time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      runs = 0
      start(processor(topic, config: config("max.poll.interval.ms": 1000))) do
        runs += 1
        wait_until(20) { Process.clock_gettime(Process::CLOCK_MONOTONIC) - start_time > 3.5 }
      end
      wait_until(30, "the job") { named(:consumed).any? }
      expect([runs, named(:revoked), named(:error)]).to eq [1, [], []]
      wait_until(10, "its commit") { committed(topic)[0] == 1 }
    end

    it "pauses a partition whose jobs are slow, and goes on with it" do
      topic = topic_with((0...300).map(&:to_s))
      open = false
      seen = Queue.new
      start(processor(topic, max_batch: 10, max_messages: 40)) do |batch|
        wait_until(20, "the gate") { open }
        batch.payloads.each { |payload| seen << payload.to_i }
      end
      wait_until(20, "a pause") { named(:paused).any? }
      expect(named(:paused).first.reason).to eq "pressure"
      open = true
      wait_until(30, "all messages") { seen.size >= 300 }
      expect(Array.new(seen.size) { seen.pop }).to eq((0...300).to_a)
      expect(named(:resumed)).not_to be_empty
    end

    it "fetches again once a job has made room, however long that job takes" do
      topic = new_topic(partitions: 2)
      producer = open_producer
      # The second job has more bytes than there is room for.
      (0...20).each { |i| producer.produce(topic: topic, payload: i == 7 ? "x" * 200 : i.to_s, partition: 0) }
      producer.flush(20)
      open = 0
      seen = Queue.new
      start(processor(topic, concurrency: 2, max_batch: 10, max_messages: 10, max_bytes: 100)) do |batch|
        wait_until(60, "the gate") { batch.partition == 1 || open > batch.first_offset }
        seen << batch.partition
      end
      wait_until(20, "a pause of all") { named(:paused).map(&:partition).sort == [0, 1] }
      producer.produce(topic: topic, payload: "x", partition: 1).wait(10)
      # Nothing waits for a worker any more once the second job of partition 0 has begun.
      open = 1
      wait_until(20, "the first job") { !seen.empty? && seen.pop == 0 }
      expect(wait_until(20, "the message of the other partition") { !seen.empty? && seen.pop }).to eq 1
      open = 1000
    end

    it "tells of the lag" do
      topic = topic_with((0...10).map(&:to_s))
      lags = Queue.new
      processor = processor(topic, config: config("statistics.interval.ms": 50), max_batch: 4)
      processor.on(:lag) { |event| lags << event.lag }
      open = false
      start(processor) { |batch| wait_until(20, "the gate") { open || batch.first_offset.zero? } }
      wait_until(20, "a lag of six") { !lags.empty? && lags.pop == { topic => { 0 => 6 } } }
      open = true
      wait_until(20, "no lag") { !lags.empty? && lags.pop == { topic => { 0 => 0 } } }
    end
  end

  it "tells of a listener that raises, and goes on" do
    topic = topic_with(%w[a])
    processor = processor(topic)
    processor.on(:consumed) { raise KeyError, "no key" }
    start(processor) {}
    wait_until(20) { named(:error).any? }
    expect(named(:error).map { |event| [event.reason, event.error.message] }).to eq [["listener", "no key"]]
    wait_until(10) { committed(topic)[0] == 1 }
  end

  it "tells of what the consumer says, such as a topic that is not there" do
    start(processor("no-such-topic-#{rand(1 << 30)}", config: config("group.protocol": "classic"))) {}
    event = wait_until(20) { named(:error).first }
    expect([event.reason, event.error.name]).to eq ["poll", :unknown_topic_or_part]
  end
end
