# frozen_string_literal: true

module Chaos
  # What a node does: it works, and sooner or later misbehaves in one of many ways, until there is a truce.
  class Node
    # The file whose presence ends all misbehaviour.
    TRUCE = "truce"

    WAYS = %i[work work work leave raise crash hang_ruby hang_in_c flood unhealthy grandchild deaf slow_boot die_at_boot
              close_reports].freeze

    def initialize(node, seed)
      @node = node
      # A replacement has other chances than its predecessor, the same in every run with the seed.
      @random = Random.new([seed, node.id, node.pid].hash)
    end

    def work
      $stderr.reopen(File::NULL) # what it raises is told to the supervisor
      way = truce? ? :work : WAYS.sample(random: @random)
      boot(way)
      @node.wait(@random.rand(0.3))
      misbehave(way) unless way == :work || @node.stopping? || truce?
      @node.wait until @node.stopping?
    end

    private

    def truce? = File.exist?(TRUCE)

    def boot(way)
      sleep 5 if way == :slow_boot
      exit!(9) if way == :die_at_boot
      @node.ready unless @random.rand < 0.2
    end

    def misbehave(way)
      case way
      when :leave then exit(0)
      when :raise then raise "chaos"
      when :crash then exit!(@random.rand(1..255))
      when :hang_ruby then trap("TERM") {} && loop { @random.rand }
      when :hang_in_c then hang_in_c
      when :flood then 20_000.times { @node.healthy }
      when :unhealthy then @node.unhealthy(@random.rand(1..9))
      when :grandchild then grandchild
      when :deaf then trap("TERM", "IGNORE") && sleep
      when :close_reports then close_reports
      end
    end

    # Half a second to a few in C, with the GVL held.
    def hang_in_c
      require "fiddle"
      jn = Fiddle.dlopen("libm.so.6")["jn"]
      Fiddle::Function.new(jn, [Fiddle::TYPE_INT, Fiddle::TYPE_DOUBLE], Fiddle::TYPE_DOUBLE, need_gvl: true)
                      .call(@random.rand(50_000_000..400_000_000), 1e10)
    end

    # Forked twice, so that it becomes somebody else's child, with the report pipe and all else still open.
    def grandchild
      middle = Process.fork do
        Process.fork { sleep 0.3 and exit!(0) }
        exit!(0)
      end
      Process.wait(middle)
    rescue Errno::ECHILD
      nil # who ignores SIGCHLD has no children to wait for
    end

    # A node whose pipe is gone hangs as far as anybody can tell.
    def close_reports
      Dir.children("/proc/self/fd").map(&:to_i).select { |fd| fd > 2 && pipe_for_writing?(fd) }.each do |fd|
        IO.for_fd(fd, autoclose: false).close
      rescue SystemCallError
        nil
      end
    end

    def pipe_for_writing?(descriptor)
      File.readlink("/proc/self/fd/#{descriptor}").start_with?("pipe:") &&
        File.read("/proc/self/fdinfo/#{descriptor}")[/^flags:\s*(\d+)/, 1].to_i(8).anybits?(1)
    rescue SystemCallError
      false
    end
  end
end
