# frozen_string_literal: true

require "spec_helper"
require_relative "../support/real_kafka"

RSpec.describe "a static member in place of one that was killed" do
  next unless SwarmNative::Kafka.available?

  before(:all) do
    why = "needs Java and Maven, for a real Kafka"
    ENV["CI"] ? raise(why) : skip(why) unless RealKafka.available?

    @kafka = RealKafka.start(properties: { "group.consumer.session.timeout.ms" => 4000,
                                           "group.consumer.heartbeat.interval.ms" => 500 })
  end

  after(:all) { @kafka&.stop }

  prelude = <<~'RUBY'
    Kafka = SwarmNative::Kafka
    SERVERS = { "bootstrap.servers": ARGV[0] }
    CONFIG = { **SERVERS, "group.id": "bills", "group.protocol": "consumer", "group.instance.id": "first",
               "auto.offset.reset": "earliest" }
    # By a process of its own: this one is to fork.
    def make_topic
      Process.wait(fork do
        admin = Kafka::Admin.new(SERVERS)
        admin.create_topic("orders", partitions: 2) unless admin.topics.key?("orders")
        wait_until(20, "the topic") { admin.topics.key?("orders") }
        admin.close
      end)
    end

    # Leaves its place in the group to nobody.
    def killed_member
      reader, writer = IO.pipe
      pid = fork do
        consumer = Kafka::Consumer.new(CONFIG).subscribe("orders")
        wait_until(30, "an assignment") { consumer.poll(0.05) || !consumer.assignment.empty? }
        writer << "joined"
        writer.flush
        loop { consumer.poll(0.05) }
      end
      writer.close
      reader.readpartial(6)
      Process.kill(:KILL, pid)
      Process.wait(pid)
    end
  RUBY

  define_method(:run) { |code| run_ruby("#{prelude}\n#{code}", deadline: 60, args: [@kafka.bootstrap_servers]) }

  it "is made anew until the group lets it in, with what was subscribed to and listened to" do
    result = run(<<~'RUBY')
      make_topic
      killed_member
      refused = 0
      assigned = []
      consumer = Kafka::Consumer.new(CONFIG).subscribe("orders")
      consumer.on_error { |error| refused += 1 if error.name == :unreleased_instance_id }
      consumer.on_assigned { |partitions| assigned << partitions }
      wait_until(30, "an assignment") { consumer.poll(0.1) || !consumer.assignment.empty? }
      puts refused.positive?, consumer.assignment, assigned, consumer.subscription.inspect
      puts SwarmNative::ForkGuard.live_handles.size
      consumer.close
    RUBY
    expect(result).to be_success, result.inspect
    all = { "orders" => [0, 1] }.to_s
    expect(result.out.lines(chomp: true)).to eq ["true", all, all, '["orders"]', "1"]
  end

  it "keeps the time of a poll, and can be woken, interrupted and closed meanwhile" do
    result = run(<<~'RUBY')
      require "timeout"
      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      make_topic
      killed_member
      refused = 0
      consumer = Kafka::Consumer.new(CONFIG).subscribe("orders")
      consumer.on_error { refused += 1 }
      wait_until(30, "a refusal") { consumer.poll(0.1) || refused.positive? }
      before = now
      puts consumer.closed?
      puts consumer.poll(0.1).inspect, now - before < 3
      thread = Thread.new { consumer.poll(30) }
      wait_until(10, "the poll") { thread.stop? }
      consumer.wakeup
      puts thread.value.inspect
      begin
        Timeout.timeout(0.3) { consumer.poll(30) }
      rescue Timeout::Error => e
        puts e.class
      end
      # It is closed while it is being made anew again and again.
      thread = Thread.new { loop { consumer.poll(0.1) } }
      thread.report_on_exception = false
      seen = refused
      joined = false
      consumer.on_assigned { joined = true }
      wait_until(20, "another refusal, or none any more") { refused > seen || joined }
      consumer.close
      begin
        thread.value
      rescue SwarmNative::ClosedHandle => e
        puts e.class, consumer.closed?
      end
      puts SwarmNative::ForkGuard.live_handles.size
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out.lines(chomp: true)).to match ["false", "nil", "true", "nil", "Timeout::Error", /(Closed|Resting)Handle/, "true", "0"]
  end
end
