# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

RSpec.describe "Kafka handles" do
  # Code that has a broker, a producer and a consumer, both connected, each made in a line of its own.
  SETUP = <<~'RUBY'
    $stdout.sync = true
    K = SwarmNative::Kafka
    broker = K::EmbeddedBroker.start(topics: { "t" => 2 })
    producer = K::Producer.new("bootstrap.servers": broker.bootstrap_servers)
    consumer = K::Consumer.new("bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest")
    consumer.subscribe("t")
    producer.produce(topic: "t", payload: "x").wait(10)
    batch = nil
    wait_until(10) { !(batch = consumer.poll_batch(10, 0.1)).empty? }
    def seconds
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      yield
      Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
    end
  RUBY

  # Forks in spite of live handles.
  UNGUARDED = <<~'RUBY'
    def unguarded_fork(&block)
      SwarmNative::ForkGuard.bypass { fork(&block) }
    end
  RUBY

  def lines(code, deadline: 30, **options)
    result = run_ruby(SETUP + UNGUARDED + code, deadline: deadline, **options)
    expect(result).to be_success, result.inspect
    expect(result.err).to eq(""), result.inspect
    result.out.lines(chomp: true)
  end

  it "are named when a fork is refused, with the lines that made them, and allow it once they are closed" do
    expect(lines(<<~'RUBY')).to eq ["2", "true", "true", "0", "forked"]
      handles = begin
        fork { }
      rescue SwarmNative::ForkRefused => e
        e.handles
      end
      puts handles.size
      puts handles.any? { |handle| handle.match?(/\ASwarmNative::Kafka::Producer rdkafka#producer-\d+ \(made at .*example\.rb:4\)\z/) }
      puts handles.any? { |handle| handle.match?(/\ASwarmNative::Kafka::Consumer rdkafka#consumer-\d+ \(made at .*example\.rb:5\)\z/) }
      producer.close
      consumer.close
      pid = fork { exit!(0) }
      puts Process.wait2(pid)[1].exitstatus
      puts "forked"
    RUBY
  end

  it "give the lease back when they were not made" do
    expect(lines(<<~'RUBY')).to eq %w[refused 0]
      [producer, consumer].each(&:close)
      begin
        K::Consumer.new("group.id": "g", "bootstrap.servers": "x", "ssl.ca.location": "/nowhere", "security.protocol": "ssl")
      rescue SwarmNative::ConfigurationError
        puts "refused"
      end
      puts Process.wait2(fork { exit!(0) })[1].exitstatus
    RUBY
  end

  it "give the lease back when the collector drops them" do
    expect(lines(<<~'RUBY')).to eq %w[forked]
      producer = consumer = nil
      wait_until(20) do
        GC.start
        begin
          Process.wait(fork { exit!(0) })
        rescue SwarmNative::ForkRefused
          nil
        end
      end
      puts "forked"
    RUBY
  end

  # What a process finds that inherits handles in spite of everything: the guard is walked round.
  it "are inert in a forked child: each method tells whose they are, GC and exit are clean and quick" do
    expect(lines(<<~'RUBY')).to eq ["StaleHandle"] * 17 + %w[true exited true]
      delivery = producer.produce(topic: "t", payload: "x")
      pending = K::Producer.new("bootstrap.servers": "127.0.0.1:1")
      unsent = pending.produce(topic: "t", payload: "x")
      parent = Process.pid
      pid = unguarded_fork do
        begin
          [-> { producer.produce(topic: "t", payload: "y") }, -> { producer.flush(1) }, -> { producer.close },
           -> { producer.closed? }, -> { producer.queue_size }, -> { producer.purge }, -> { unsent.wait(1) },
           -> { consumer.poll_batch(1, 1) }, -> { consumer.subscribe("t") }, -> { consumer.unsubscribe },
           -> { consumer.commit }, -> { consumer.store_offset(batch[0]) }, -> { consumer.assignment },
           -> { consumer.position }, -> { consumer.committed }, -> { consumer.close }, -> { consumer.closed? }].each do |call|
            call.call
            puts "nothing"
          rescue SwarmNative::StaleHandle => e
            puts e.message.include?("process #{parent}") ? "StaleHandle" : e.message
          end
          puts [batch[0].payload, batch[0].topic, producer.name, consumer.inspect].all?(String)
          batch = producer = consumer = delivery = pending = unsent = nil
          3.times { GC.start }
        end
      end
      took = seconds { Process.wait(pid) }
      puts $?.success? ? "exited" : $?.inspect
      puts took < 5 * WaitUntil::STRETCH
      [producer, consumer].each(&:close)
      pending.close(0)
    RUBY
  end

  it "of a child's own work, beside the stale ones it has inherited" do
    expect(lines(<<~'RUBY')).to eq %w[1 true]
      pid = unguarded_fork do
          own = K::Producer.new("bootstrap.servers": broker.bootstrap_servers)
          own.produce(topic: "t", payload: "y", partition: 1).wait(10)
          puts own.close.empty? ? 1 : 0
      end
      puts Process.wait2(pid)[1].success?
      [producer, consumer].each(&:close)
    RUBY
  end

  describe "that nobody has closed" do
    it "end with the process, quickly and quietly, and what was queued is delivered" do
      expect(lines(<<~'RUBY')).to eq %w[0]
        producer.produce(topic: "t", payload: "last")
        at_exit { puts $?.to_i }
      RUBY
    end

    it "do not hold up the exit when the broker is dead, and the loss is told" do
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      result = run_ruby(<<~RUBY, deadline: 20)
        producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1")
        3.times { producer.produce(topic: "t", payload: "x") }
        consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:1", "group.id": "g")
        consumer.subscribe("t")
        consumer.poll_batch(1, 0.1)
      RUBY
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 10
      expect(result.status.exitstatus).to eq 0
      expect(result.err).to eq "swarm_native: 3 Kafka messages were not delivered, because a producer was not closed " \
                               "before the exit\n"
    end

    it "end with an exit! too" do
      expect(lines("puts 1; exit!(0)", leak: true)).to eq %w[1]
    end
  end

  describe "and trap handlers" do
    it "run while a poll waits, which goes on afterwards" do
      expect(lines(<<~'RUBY')).to eq %w[trapped 0 true]
        trap("USR1") { puts "trapped" }
        Thread.new { sleep 0.2; Process.kill("USR1", Process.pid) }
        took = seconds { puts consumer.poll_batch(1, 1.0).size }
        puts took >= 0.99
        [producer, consumer].each(&:close)
      RUBY
    end

    it "may close the handle that the thread waits on" do
      expect(lines(<<~'RUBY')).to eq %w[ClosedHandle ClosedHandle true]
        dead = K::Producer.new("bootstrap.servers": "127.0.0.1:1")
        dead.produce(topic: "t", payload: "x")
        trap("USR1") { consumer.close }
        trap("USR2") { dead.close(0) }
        took = seconds do
          { "USR1" => -> { consumer.poll_batch(1, 30) }, "USR2" => -> { dead.flush(30) } }.each do |signal, call|
            Thread.new { sleep 0.2; Process.kill(signal, Process.pid) }
            call.call
            puts "nothing"
          rescue SwarmNative::ClosedHandle
            puts "ClosedHandle"
          end
        end
        puts took < 10
        producer.close
      RUBY
    end
  end

  it "write nothing to stderr by default, and librdkafka's lines when asked for" do
    code = <<~RUBY
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1", debug: "broker")
      producer.produce(topic: "t", payload: "x")
      producer.flush(0.3)
      producer.close(0)
    RUBY
    expect(run_ruby(code).err).to eq ""
    expect(run_ruby(code, env: { "SWARM_NATIVE_LOG" => "debug" }).err).to match(/librdkafka.*127\.0\.0\.1:1/)
  end

  it "survive compaction and a stressed collector" do
    expect(lines(<<~'RUBY', deadline: 60)).to eq %w[x x 20]
      heap = RUBY_VERSION < "3.2" ? :double_heap : :expand_heap
      GC.verify_compaction_references(toward: :empty, heap => true) if GC.respond_to?(:verify_compaction_references)
      message = batch[0]
      puts message.payload
      GC.stress = true
      deliveries = Array.new(20) { |i| producer.produce(topic: "t", payload: "p#{i}", headers: { "n" => i.to_s }) }
      puts message.payload
      deliveries.each { |delivery| delivery.wait(20) }
      got = []
      wait_until(30) { got.concat(consumer.poll_batch(20, 0.1).map { |m| [m.payload, m.headers] }); got.size >= 20 }
      GC.stress = false
      puts got.uniq.size
      [producer, consumer].each(&:close)
    RUBY
  end

  it "leave no descriptor, thread or lease behind after a hundred of them" do
    expect(lines(<<~'RUBY', deadline: 60)).to eq %w[true]
      count = -> { GC.start; [Dir.children("/proc/self/fd").size, Dir.children("/proc/self/task").size] }
      round = proc do
        own = K::Producer.new("bootstrap.servers": broker.bootstrap_servers)
        own.produce(topic: "t", payload: "x").wait(10)
        own.close
        own = K::Consumer.new("bootstrap.servers": broker.bootstrap_servers, "group.id": "other")
        own.subscribe("t")
        own.poll_batch(1, 0.01)
        own.close
      end
      3.times(&round)
      before = count.call
      50.times(&round)
      wait_until(5) { count.call == before }
      puts true
      [producer, consumer].each(&:close)
    RUBY
  end
end
