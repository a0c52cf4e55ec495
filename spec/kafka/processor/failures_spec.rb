# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/processors"

RSpec.describe "SwarmNative::Kafka::Processor, where a block raises", :kafka do
  include_context "with processors"

  describe "#run" do
    it "has its partition begin again at the same offset, while others go on" do
      topic = topic_with(%w[a b c d e f], partitions: 2)
      attempts = Queue.new
      failures = 2
      start(processor(topic)) do |batch|
        attempts << [batch.partition, batch.first_offset, batch.attempt]
        raise "not yet" if batch.partition.zero? && (failures -= 1) >= 0
      end
      wait_until(30, "all") { named(:consumed).sum(&:size) == 6 }
      zero = Array.new(attempts.size) { attempts.pop }.select { |attempt| attempt[0].zero? }
      expect(zero.first(3)).to eq [[0, 0, 1], [0, 0, 2], [0, 0, 3]]
      errors = named(:error)
      expect(errors.map { |event| [event.reason, event.offset, event.attempt, event.retry_in.round(2), event.error.message] })
        .to eq [["job", 0, 1, 0.05, "not yet"], ["job", 0, 2, 0.1, "not yet"]]
      expect(named(:paused).map { |event| [event.partition, event.reason] }.uniq).to eq [[0, "retry"]]
    end

    it "loses nothing of what it had said to be done, and repeats nothing of it" do
      topic = topic_with(%w[a b c d])
      seen = Queue.new
      start(processor(topic)) do |batch|
        seen << batch.payloads
        if batch.first_offset.zero?
          expect(batch.done(batch[1])).to be true
          expect { batch.done("b") }.to raise_error(ArgumentError, /takes a message of this batch/)
          raise "half"
        end
      end
      wait_until(20) { named(:consumed).any? }
      expect(Array.new(seen.size) { seen.pop }).to eq [%w[a b c d], %w[c d]]
      expect(named(:error).map { |event| [event.offset, event.error.message] }).to eq [[2, "half"]]
    end

    it "sends to the dead letters what fails by itself, after the last attempt, with where it came from" do
      dead = new_topic
      topic = new_topic
      producer = open_producer
      (0..9).each do |i|
        producer.produce(topic: topic, payload: i == 4 ? nil : i.to_s, key: "k#{i}", headers: { "h" => "v" })
      end
      producer.close
      seen = Queue.new
      processor = processor(topic, dead_letter: dead, max_attempts: 2)
      start(processor) do |batch|
        batch.each { |message| message.payload.nil? ? raise(IOError, "no payload") : seen << message.payload }
      end
      wait_until(30, "the other messages") { committed(topic)[0] == 10 }
      expect(Array.new(seen.size) { seen.pop }.tally.keys.sort).to eq %w[0 1 2 3 5 6 7 8 9]
      letter = take(open_consumer(dead), 1).first
      expect([letter.payload, letter.key, letter.headers])
        .to eq [nil, "k4", { "h" => "v", "swarm.topic" => topic, "swarm.partition" => "0", "swarm.offset" => "4",
                             "swarm.attempts" => "2", "swarm.error" => "IOError: no payload" }]
      expect(named(:error).map(&:reason)).to eq %w[job dead_letter]
    end

    it "keeps a message that the dead letters do not take" do
      topic = topic_with(%w[a b])
      refused = 0
      taken = []
      dead_letter = lambda do |message, error|
        raise "full" if (refused += 1) < 3

        taken << [message.payload, error.message]
      end
      start(processor(topic, dead_letter: dead_letter, max_attempts: 1)) { |batch| raise "bad" if batch.payloads.include?("a") }
      wait_until(20, "all") { committed(topic)[0] == 2 }
      expect([refused, taken]).to eq [3, [%w[a bad]]]
      expect(named(:error).map { |event| [event.reason, event.error.message, event.error.cause&.message] })
        .to eq [["dead_letter_failed", "full", "bad"]] * 2 + [["dead_letter", "bad", nil]]
    end

    it "sends to the dead letters what is larger than a producer may send by default" do
      dead, topic = new_topic, new_topic
      payload = "x" * 1_500_000
      open_producer("message.max.bytes": 2_000_000).produce(topic: topic, payload: payload).wait(20)
      start(processor(topic, dead_letter: dead, max_attempts: 1)) { raise "bad" }
      wait_until(20, "what became of it") { named(:error).any? }
      expect(named(:error).map(&:reason)).to eq %w[dead_letter]
      expect(take(open_consumer(dead), 1).first.payload == payload).to be true
    end

    it "does not wait at a stop for dead letters that nobody takes" do
      dead, topic = new_topic, topic_with(%w[a])
      # Leader not available: a producer tries that again.
      KafkaBroker.shared.fail_topic(dead, 5)
      inside = Queue.new
      processor = processor(topic, dead_letter: dead, max_attempts: 1, shutdown_timeout: 0.1)
      start(processor) { inside << true and raise "bad" }
      wait_until(20) { !inside.empty? }
      start_time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      stop(processor)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start_time).to be < 15
      expect(committed(topic)).to eq({})
    end

    it "ends a run by what is no failure of the work, after the jobs" do
      topic = topic_with(%w[a])
      processor = processor(topic)
      thread = start(processor) { exit(7) }
      expect { thread.value }.to raise_error(SystemExit) { |error| expect(error.status).to eq 7 }
      expect(processor.running?).to be false
      expect(committed(topic)).to eq({})
    end

    it "is tried again when it has ended its thread" do
      topic = topic_with(%w[a b])
      ended = 0
      start(processor(topic, concurrency: 1)) { (ended += 1) <= 2 ? Thread.current.kill : nil }
      wait_until(20, "the work") { committed(topic)[0] == 2 }
      expect(named(:error).map { |event| event.error.message }).to eq ["the block has ended its thread"] * 2
    end
  end

  describe "#each_message" do
    it "does, fails and gives up each message by itself" do
      topic = topic_with(%w[a bad b worse c])
      seen = []
      dead = []
      processor = processor(topic, dead_letter: ->(message, _) { dead << message.payload }, max_attempts: 3)
      start(processor, :each_message) do |message|
        seen << message.payload
        raise "bad" if message.payload == "worse" || (message.payload == "bad" && seen.count("bad") < 2)
      end
      wait_until(20, "all") { committed(topic)[0] == 5 }
      expect([seen, dead]).to eq [%w[a bad bad b worse worse worse c], %w[worse]]
    end

    it "gets on with each message: consuming_ttl is for one of them, not for all that were fetched" do
      topic = topic_with(%w[a b c d e f])
      processor = processor(topic, consuming_ttl: 3.0)
      start(processor, :each_message) { sleep 0.7 }
      wait_until(30, "all") { committed(topic)[0] == 6 }
      expect(named(:consumed).map(&:duration).max).to be > 3.0
      expect(named(:error)).to eq []
    end

    it "stops after the message that it works on" do
      topic = topic_with((0..9).map(&:to_s))
      seen = []
      processor = processor(topic)
      start(processor, :each_message) { |message| seen << message.payload and processor.stop }.value
      expect([seen, committed(topic)]).to eq [%w[0], { 0 => 1 }]
    end
  end
end
