# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::ForkGuard over many forks", :kafka do
  def run!(code, **options)
    result = run_ruby(code, **options)
    expect(result).to be_success, result.inspect
    result.out.lines(chomp: true)
  end

  it "refuses none of 1,000 forks without handles, whatever the threads are called" do
    result = run!(<<~'RUBY', deadline: 300)
      names = ["rdk:main", "rdk:broker1", "rdk:", "rdkafka", "", "main", "\u00e9" * 5, "a" * 15, "(\n)"]
      threads = names.map do |name|
        Thread.new do
          Thread.current.name = name
          sleep
        end
      end
      wait_until { threads.all?(&:stop?) }
      ends = Hash.new(0)
      1000.times { ends[Process.wait2(fork { exit!(4) })[1].exitstatus] += 1 }
      p ends.to_a, SwarmNative::ForkGuard.live_handles
    RUBY
    expect(result).to eq ["[[4, 1000]]", "[]"]
  end

  # The time is the point: whoever waits for the wrong thing, or keeps a permit, stops the others for good.
  it "neither forks beside a handle nor stops for good while threads open, close and fork for 30 s" do
    seconds = Float(ENV.fetch("SPEC_STRESS_SECONDS", "30"))
    env = { "BROKER" => bootstrap_servers, "SECONDS" => seconds.to_s }
    result = run!(<<~'RUBY', deadline: seconds + 240, env: env, library: nil)
      counts = Hash.new(0)
      count = ->(what) { counts[what] += 1 }
      # Below the guard's hook, where its permit is held: nothing may be live from here on.
      Process.singleton_class.prepend(Module.new do
        define_method(:_fork) do
          3.times do
            count.call(:beside_a_handle) unless SwarmNative::ForkGuard.live_handles.empty?
            Thread.pass
          end
          super()
        end
      end)
      require "swarm_native"
      guard = SwarmNative::ForkGuard
      guard.gate_timeout = 0.02
      due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + Float(ENV["SECONDS"])
      goes_on = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) < due }
      fork_once = lambda do
        pid = fork { exit!(guard.safe? && guard.live_handles.empty? ? 0 : 1) }
        Process.wait2(pid)[1].success? ? count.call(:forked) : count.call(:bad_child)
      rescue SwarmNative::ForkRefused => e
        count.call(e.handles.empty? ? :refused_for_nothing : :refused)
      end
      openers = Array.new(3) do |i|
        Thread.new do
          while goes_on.call
            lease = guard::Lease.take("Some::Handle", i.to_s, "")
            Thread.pass if rand < 0.5
            lease.release
            count.call(:leased)
            sleep(rand * 0.004)
          end
        end
      end
      kafka = Thread.new do
        while goes_on.call
          producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
          sleep(rand * 0.01)
          producer.close(5)
          count.call(:opened)
          sleep(rand * 0.1)
        end
      end
      killed = Thread.new do
        while goes_on.call
          victim = Thread.new { fork_once.call }
          victim.report_on_exception = false
          sleep(rand * 0.003)
          rand < 0.5 ? victim.kill : victim.raise("away")
          victim.join rescue nil
          count.call(:interrupted)
        end
      end
      forkers = Array.new(2) { Thread.new { fork_once.call while goes_on.call } }
      [*openers, kafka, killed, *forkers].each(&:join)
      # Nothing was kept: a handle can be made, and a fork made after it.
      guard::Lease.take("Last", "", "").release
      fork_once.call
      begin
        Process.waitall # children whose parent's thread was killed before it could wait
      rescue SystemCallError
      end
      p counts.values_at(:bad_child, :beside_a_handle, :refused_for_nothing)
      p counts[:opened].positive? && %i[forked refused leased interrupted].all? { |what| counts[what] > 10 } || counts
    RUBY
    expect(result).to eq ["[0, 0, 0]", "true"]
  end
end
