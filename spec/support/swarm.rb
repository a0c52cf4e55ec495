# frozen_string_literal: true

# What the programs of the supervisor's examples begin with.
module Swarm
  PRELUDE = <<~'RUBY'
    SwarmNative.logger = nil
    $stdout.sync = true

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # One that is quick to notice; `stable_after: 0` has a ready node replaced at once.
    def supervisor(**settings)
      SwarmNative::Supervisor.new(nodes: 1, stable_after: 0, report_interval: 0.05, shutdown_timeout: 5, **settings)
    end

    # Gets ready and works until it is told to stop.
    WORK = proc do |node|
      node.ready
      node.wait until node.stopping?
    end

    # Runs the swarm in a thread; its value is what `run` raised, or the supervisor.
    def in_background(supervisor, &work)
      Thread.new do
        supervisor.run(&(work || WORK))
      rescue StandardError => e
        e
      end
    end

    def all_ready(supervisor)
      wait_until(10) { supervisor.nodes.all? { |node| node.state == :ready } }
    end

    # The one node's pid once it is ready, and is not `other`.
    def ready_pid(supervisor, other = nil, id: 0)
      wait_until(10) do
        node = supervisor.nodes[id]
        node.pid if node.state == :ready && node.pid != other
      end
    end

    # All that is told, as [name, reason].
    def record(supervisor)
      [].tap { |told| supervisor.on(*SwarmNative::Event::NAMES) { |event| told << event } }
    end

    def alive?(pid)
      File.read("/proc/#{pid}/stat")[/\) (.)/, 1] != "Z"
    rescue Errno::ENOENT, Errno::ESRCH
      false
    end

    # A long computation in C that neither gives the GVL away nor hears signals: a Bessel function of high order.
    def hold_the_gvl
      require "fiddle"
      jn = Fiddle.dlopen("libm.so.6")["jn"]
      types = [Fiddle::TYPE_INT, Fiddle::TYPE_DOUBLE]
      Fiddle::Function.new(jn, types, Fiddle::TYPE_DOUBLE, need_gvl: true).call((2**31) - 1, 1e10)
    end

    def open_files = Dir.children("/proc/self/fd").size

    def children = File.read("/proc/self/task/#{Process.pid}/children").split.size
  RUBY

  # Runs the code with the prelude in a Ruby process of its own.
  def run_swarm(code, **options, &block)
    run_ruby("#{PRELUDE}\n#{code}", **options, &block)
  end
end

RSpec.configure { |config| config.include Swarm }
