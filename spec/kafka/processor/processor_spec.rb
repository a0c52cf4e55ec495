# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::Processor", :kafka do
  around do |example|
    logger = SwarmNative.logger
    SwarmNative.logger = nil
    example.run
  ensure
    SwarmNative.logger = logger
  end

  after do
    @runs&.each do |processor, thread|
      processor.stop
      thread.join(60) or thread.kill
    rescue Exception # rubocop:disable Lint/RescueException -- what ended a run is the example's, and it has seen it
      nil
    end
  end

  let(:group) { "group-#{Process.pid}-#{rand(1 << 40)}" }
  let(:events) { Queue.new }
  # What was told so far, in order.
  let(:told) { [] }

  def config(**more)
    { "bootstrap.servers": bootstrap_servers, "group.id": group, "group.protocol": "consumer",
      "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10, **more }
  end

  # A topic with these payloads, in turn on its partitions.
  def topic_with(payloads, partitions: 1)
    new_topic(partitions: partitions).tap { |topic| fill(topic, payloads, partitions) }
  end

  def fill(topic, payloads, partitions = 1)
    producer = open_producer
    payloads.each_with_index { |payload, i| producer.produce(topic: topic, payload: payload, partition: i % partitions) }
    expect(producer.close(20)).to eq({})
  end

  def processor(topic, config: self.config, **settings)
    SwarmNative::Kafka::Processor.new(config: config, topics: topic, max_wait: 0.0, backoff_min: 0.05,
                                      **settings).tap do |processor|
      processor.on(*SwarmNative::Kafka::Processor::Event::NAMES - [:lag]) { |event| told << event }
    end
  end

  # Runs it in a thread until the example ends.
  def start(processor, method = :run, node = nil, &work)
    thread = Thread.new { processor.public_send(method, node, &work) }
    thread.report_on_exception = false
    (@runs ||= []) << [processor, thread]
    thread
  end

  # Stops it, and gives what `run` gives or raises.
  def stop(processor)
    processor.stop
    thread = @runs.assoc(processor).last
    thread.join(60) or raise "it did not stop"
    thread.value
  end

  def named(name) = told.select { |event| event.name == name }

  # What the group has committed for the topic.
  def committed(topic)
    @asker ||= keep(SwarmNative::Kafka::Consumer.new(config("group.protocol": "classic")))
    @asker.assign(topic => [0, 1, 2, 3])
    @asker.committed(10)[topic] || {}
  end

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
      (0...20).each { |i| producer.produce(topic: topic, payload: i.to_s, partition: 0) }
      producer.flush(20)
      open = 0
      seen = Queue.new
      start(processor(topic, concurrency: 2, max_batch: 10, max_messages: 10)) do |batch|
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

  describe "a block that raises" do
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

  describe "a revocation" do
    # Has a second member come, so that one of the two partitions goes to it.
    def second_member(topic, **settings, &work)
      processor(topic, **settings).tap { |second| start(second, &work) }
    end

    it "waits for the job, which is committed before anybody else has the partition" do
      topic = topic_with(%w[a b], partitions: 2)
      open = false
      inside = Queue.new
      first = processor(topic, revoke_timeout: 60.0)
      start(first) do |batch|
        inside << batch
        wait_until(30, "the gate") { open }
      end
      batches = Array.new(2) { wait_until(20) { !inside.empty? && inside.pop } }
      elsewhere = Queue.new
      second_member(topic) { |batch| elsewhere << batch.payloads }
      wait_until(20, "the group's wish") { batches.any?(&:revoked?) }
      expect(elsewhere).to be_empty
      open = true
      wait_until(20, "both commits") { committed(topic) == { 0 => 1, 1 => 1 } }
      wait_until(20, "the revocation") { named(:revoked).any? && named(:assigned).size >= 2 }
      expect([elsewhere.size, named(:error)]).to eq [0, []]
    end

    it "drops the result of a job that takes too long, and the work is done elsewhere" do
      topic = topic_with(%w[a b], partitions: 2)
      open = false
      inside = Queue.new
      results = []
      first = processor(topic, revoke_timeout: 0.1)
      start(first) do |batch|
        inside << batch
        wait_until(30, "the gate") { open }
        results << batch.done(batch.last)
      end
      2.times { wait_until(20) { !inside.empty? && inside.pop } }
      elsewhere = Queue.new
      second_member(topic) { |batch| elsewhere << [batch.partition, batch.payloads] }
      moved, payloads = wait_until(30, "the work elsewhere") { !elsewhere.empty? && elsewhere.pop }
      expect(payloads).to eq [moved.zero? ? "a" : "b"]
      late = named(:error).find { |event| event.reason == "revoked" }
      expect([late.partition, late.error.message]).to match [moved, /#{topic}\/#{moved} from offset 0 on.* is dropped/]
      open = true
      wait_until(20, "both results") { results.size == 2 }
      expect(results.sort_by(&:to_s)).to eq [false, true]
    end
  end

  it "goes on with a partition that was taken while it waited for its next attempt, once it is back" do
    topic = topic_with(%w[a b], partitions: 2)
    seen = Queue.new
    start(processor(topic, backoff_min: 30.0)) do |batch|
      raise "not yet" unless batch.payloads.include?("again")

      seen << batch.partition
    end
    wait_until(20, "two failures") { named(:paused).map(&:partition).sort == [0, 1] }
    elsewhere = Queue.new
    second = processor(topic)
    start(second) { |batch| elsewhere << batch.partition }
    moved = wait_until(30, "the work elsewhere") { !elsewhere.empty? && elsewhere.pop }
    stop(second)
    open_producer.produce(topic: topic, payload: "again", partition: moved).wait(10)
    expect(wait_until(30, "the partition that is back") { !seen.empty? && seen.pop }).to eq moved
  end

  describe "#quiet" do
    it "lets what runs end, commits it, begins nothing, and stays in the group" do
      topic = topic_with((0...20).map(&:to_s))
      open = false
      seen = Queue.new
      processor = processor(topic, max_batch: 5)
      start(processor) do |batch|
        seen << batch.payloads.size
        wait_until(20, "the gate") { open }
      end
      wait_until(20, "work") { !seen.empty? }
      processor.quiet
      wait_until(20, "the pause") { named(:paused).any? { |event| event.reason == "quiet" } }
      open = true
      wait_until(20, "the commit") { committed(topic)[0] == 5 }
      expect([seen.size, processor.quiet?, processor.running?, named(:revoked)]).to eq [1, true, true, []]
      stop(processor)
      expect([processor.quiet?, processor.running?]).to eq [false, false]
    end
  end

  describe "#stop" do
    it "ends a job at its end, and begins no other" do
      topic = topic_with((0...20).map(&:to_s))
      open = false
      seen = Queue.new
      processor = processor(topic, max_batch: 5)
      thread = start(processor) do |batch|
        seen << batch
        wait_until(20, "the gate") { open }
      end
      batch = wait_until(20) { !seen.empty? && seen.pop }
      processor.stop
      wait_until(10) { batch.stopping? }
      expect([thread.alive?, processor.jobs]).to eq [true, ["#{topic}/0 from offset 0 on (5 messages)"]]
      open = true
      expect(thread.value).to equal processor
      expect([seen.size, committed(topic)]).to eq [0, { 0 => 5 }]
    end

    it "begins no other after the one that asks for it" do
      topic = topic_with((0...20).map(&:to_s))
      seen = Queue.new
      processor = processor(topic, max_batch: 1)
      thread = start(processor) do |batch|
        seen << batch
        processor.stop
      end
      expect(thread.join(60)).to be_truthy
      expect([seen.size, committed(topic)]).to eq [1, { 0 => 1 }]
    end

    it "gives up jobs at the shutdown_timeout, and names them" do
      topic = topic_with(%w[a])
      inside = Queue.new
      processor = processor(topic, shutdown_timeout: 0.2)
      start(processor) { inside << true and sleep }
      wait_until(20) { !inside.empty? }
      stop(processor)
      error = named(:error).last
      expect([error.reason, error.error]).to match ["shutdown", an_instance_of(SwarmNative::ForcefulShutdown)]
      expect(error.error.message).to match(%r{within 0.2 s: #{topic}/0 from offset 0 on \(1 messages\), running for \d})
      expect(committed(topic)).to eq({})
      expect(Thread.list.map(&:name).compact.grep(/swarm (worker|processor)/)).to eq []
    end

    it "gives up jobs at the shutdown_timeout also while the group waits for them" do
      topic = topic_with(%w[a b], partitions: 2)
      inside = Queue.new
      first = processor(topic, revoke_timeout: 60.0, shutdown_timeout: 1.0)
      start(first) { |batch| inside << batch and sleep }
      batches = Array.new(2) { wait_until(20) { !inside.empty? && inside.pop } }
      start(processor(topic)) {}
      wait_until(20, "the group's wish") { batches.any?(&:revoked?) }
      start_time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      stop(first)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start_time).to be < 20
      shutdown = named(:error).find { |event| event.reason == "shutdown" }
      expect(shutdown.error.message.scan(%r{#{topic}/\d}).sort).to eq ["#{topic}/0", "#{topic}/1"]
    end

    it "counts the shutdown_timeout from the stop on, also where a block keeps the listener from seeing it" do
      topic = topic_with(%w[a b c])
      processor = processor(topic, max_batch: 1, max_messages: 1, shutdown_timeout: 3.0)
      now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
      stopped = nil
      processor.on(:paused) do
        processor.stop
        stopped ||= now.call
        sleep 0.01 until now.call > stopped + 3.2
      end
      start(processor) { sleep }
      wait_until(60, "the end") { !processor.running? && stopped }
      expect(now.call - stopped).to be < 6
      expect(named(:error).map(&:reason)).to eq %w[shutdown]
    end

    it "may come before the run, and one that has run may run again" do
      topic = topic_with(%w[a])
      processor = processor(topic)
      processor.stop
      expect(processor.run { raise "never" }).to equal processor
      expect(processor.stopping?).to be false
      start(processor) { processor.stop }
      wait_until(20) { !processor.running? && named(:consumed).any? }
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

  it "ends with an exception out of a thread that is told to, and leaves nothing behind" do
    topic = topic_with(%w[a])
    inside = Queue.new
    thread = start(processor(topic)) { inside << true }
    wait_until(20) { !inside.empty? }
    thread.raise(IOError, "out")
    expect { thread.value }.to raise_error(IOError, "out")
    expect(committed(topic)).to eq(0 => 1)
    expect(Thread.list.map(&:name).compact.grep(/swarm (worker|processor)/)).to eq []
  end
end
