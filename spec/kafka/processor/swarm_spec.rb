# frozen_string_literal: true

require "spec_helper"

RSpec.describe "a SwarmNative::Kafka::Processor in the nodes of a swarm" do
  next unless SwarmNative::Kafka.available?

  prelude = <<~'RUBY'
    SwarmNative.logger = nil
    $stdout.sync = true
    Kafka = SwarmNative::Kafka

    def processor(broker, **settings)
      config = { "bootstrap.servers": broker.bootstrap_servers, "group.id": "bills", "group.protocol": "consumer",
                 "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10 }
      Kafka::Processor.new(config: config, topics: "orders", max_wait: 0.0, **settings)
    end

    def swarm(nodes, **policy)
      SwarmNative::Supervisor.new(nodes: nodes, stable_after: 0, report_interval: 0.05, shutdown_timeout: 20, **policy)
    end

    # Nodes work with the block, which writes what it has done into a file of theirs.
    def run(supervisor, processor, &work)
      Thread.new do
        supervisor.run do |node|
          file = File.open("done.#{node.id}.#{Process.pid}", "a")
          file.sync = true
          processor.run(node) { |batch| work.call(batch, file) }
        end
      rescue StandardError => e
        e
      end
    end

    def done = Dir["done.*"].flat_map { |file| File.readlines(file, chomp: true) }

    # Fills the topic, in a process of its own: this one is to fork.
    def fill(broker, count)
      Process.wait(fork do
        producer = Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers)
        count.times { |i| producer.produce(topic: "orders", payload: i.to_s) }
        exit!(producer.close(20).empty? ? 0 : 1)
      end)
      $?.success? or raise "the topic was not filled"
    end
  RUBY

  define_method(:run_processors) { |code, **options| run_ruby("#{prelude}\n#{code}", **options) }

  it "is ready, shares the work, and loses nothing when a node is killed" do
    result = run_processors(<<~'RUBY', deadline: 90)
      Kafka::EmbeddedBroker.start(topics: { "orders" => 4 }) do |broker|
        fill(broker, 400)
        supervisor = swarm(2, ready: :manual)
        running = run(supervisor, processor(broker)) { |batch, file| batch.each { |message| file.puts(message.payload); sleep 0.002 } }
        wait_until(30, "ready nodes") { supervisor.nodes.map(&:state) == %i[ready ready] }
        wait_until(30, "some work") { done.size > 50 }
        Process.kill(:KILL, supervisor.nodes[0].pid)
        wait_until(60, "all work") { done.uniq.size == 400 }
        supervisor.stop
        puts running.value.class, done.size - 400
      end
    RUBY
    expect(result).to be_success, result.inspect
    kind, duplicates = result.out.lines(chomp: true)
    expect(kind).to eq "SwarmNative::Supervisor"
    # What the killed node had in work, or had not committed yet.
    expect(duplicates.to_i).to be < 300
  end

  it "commits what it has done at a stop, so that nothing is done twice" do
    result = run_processors(<<~'RUBY', deadline: 90)
      Kafka::EmbeddedBroker.start(topics: { "orders" => 4 }) do |broker|
        fill(broker, 200)
        2.times do |round|
          supervisor = swarm(2)
          running = run(supervisor, processor(broker, max_batch: 5)) { |batch, file| batch.each { |message| file.puts(message.payload); sleep 0.002 } }
          wait_until(60, "work") { round.zero? ? done.size > 60 : done.size >= 200 }
          supervisor.stop
          running.value
        end
        puts done.size, done.uniq.size
      end
    RUBY
    expect([result.out, result.err]).to eq ["200\n200\n", ""]
  end

  it "is quiet when the swarm is, and stays until it is stopped" do
    result = run_processors(<<~'RUBY', deadline: 60)
      Kafka::EmbeddedBroker.start(topics: { "orders" => 2 }) do |broker|
        fill(broker, 4)
        processor = processor(broker)
        processor.on(:paused) { |event| File.write("paused", event.reason) }
        supervisor = swarm(1)
        running = run(supervisor, processor) { |batch, file| file.puts(batch.payloads) }
        wait_until(30, "the work") { done.size == 4 }
        supervisor.quiet
        wait_until(30, "the pause") { File.exist?("paused") && File.read("paused") == "quiet" }
        fill(broker, 4)
        puts running.join(1.0).inspect, done.size
        supervisor.stop
        puts running.value.class
      end
    RUBY
    expect([result.out, result.err]).to eq ["nil\n4\nSwarmNative::Supervisor\n", ""]
  end

  { "a job" => ["unhealthy(2)", "consuming_ttl: 0.3", "work"], "a poll" => ["unhealthy(1)", "polling_ttl: 0.3", "assigned"] }
    .each do |what, (reason, setting, where)|
    it "has a node replaced in which #{what} hangs" do
      result = run_processors(<<~RUBY, deadline: 60, args: [where])
        Kafka::EmbeddedBroker.start(topics: { "orders" => 1 }) do |broker|
          fill(broker, 1)
          # Only the first process hangs, where it is told to.
          hang = ->(here) { here == ARGV[0] && !File.exist?("hung") && File.write("hung", "") && sleep }
          processor = processor(broker, shutdown_timeout: 0.1, #{setting})
          processor.on(:assigned) { hang.call("assigned") }
          supervisor = swarm(1)
          reasons = Queue.new
          supervisor.on(:node_unhealthy) { |event| reasons << event.reason }
          supervisor.on(:node_unhealthy) { |event| Process.kill(:KILL, event.pid) }
          running = run(supervisor, processor) { |_, file| hang.call("work") || file.puts("done") }
          puts reasons.pop
          wait_until(40, "the work by the next node") { done.any? }
          supervisor.stop
          running.value
        end
      RUBY
      expect([result.out, result.err]).to eq ["#{reason}\n", ""]
    end
  end
end
