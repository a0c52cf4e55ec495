# frozen_string_literal: true

module Chaos
  # What befalls a swarm from outside, one strike after the other, from a seed.
  class Strikes
    # Strike and how often, of the sum.
    KINDS = { kill: 30, freeze: 8, continue: 8, term: 10, interrupt: 4, restart: 2, scale: 3, ttin: 4, thief: 4,
              hoard: 3, burn: 4, ignore_children: 2, hang_up: 1 }.freeze
    DECK = KINDS.flat_map { |kind, times| [kind] * times }.freeze

    # @return [Hash{Symbol => Integer}] how many of which were made
    attr_reader :made

    def initialize(swarm, random, nodes)
      @swarm = swarm
      @random = random
      @nodes = nodes
      @made = Hash.new(0)
      @busy = []
      @child_trap = nil
    end

    def strike_once
      sleep @random.rand(0.03)
      kind = DECK.sample(random: @random)
      @made[kind] += 1 if send(kind)
    end

    # Whatever a strike has left standing is put right.
    def cease
      @busy.each(&:join)
      trap("CLD", "DEFAULT")
      @swarm.scale(@nodes)
      each_pid { |pidfd| pidfd.signal(:CONT) }
    end

    private

    def kill = hit(:KILL)
    def freeze = hit(:STOP)
    def continue = hit(:CONT)
    def term = hit(:TERM)
    def interrupt = hit(:INT)

    # By a pidfd: what was found in a snapshot may have ended, and its pid may be somebody else's.
    def hit(signal)
      pid = @swarm.nodes.filter_map(&:pid).sample(random: @random)
      return unless pid

      pidfd = SwarmNative::Pidfd.new(pid)
      pidfd.signal(signal) if ours?(pid)
    rescue Errno::ESRCH, Errno::EMFILE
      false
    ensure
      pidfd&.close
    end

    def ours?(pid) = @swarm.nodes.any? { |node| node.pid == pid }

    def each_pid
      @swarm.nodes.filter_map(&:pid).each do |pid|
        SwarmNative::Pidfd.new(pid).tap { |pidfd| yield pidfd if ours?(pid) }.close
      rescue Errno::ESRCH
        nil
      end
    end

    def restart = @swarm.restart
    def scale = @swarm.scale(@random.rand(1..(@nodes + 2)))
    def ttin = Process.kill(:TTIN, Process.pid)
    def hang_up = Process.kill(:HUP, Process.pid)

    # Somebody else in the process takes whatever exit status there is.
    def thief
      length = @random.rand(0.2)
      beside do
        deadline = Chaos.now + length
        while Chaos.now < deadline
          begin
            Process.wait(-1, Process::WNOHANG) or sleep(0.001)
          rescue Errno::ECHILD
            sleep 0.001
          end
        end
      end
    end

    # Descriptors run out.
    def hoard
      length = @random.rand(0.2)
      beside do
        soft, hard = Process.getrlimit(:NOFILE)
        held = []
        begin
          Process.setrlimit(:NOFILE, Dir.children("/proc/self/fd").size + 2, hard)
          8.times { held << File.open(File::NULL) }
        rescue Errno::EMFILE
          sleep length
        ensure
          Process.setrlimit(:NOFILE, soft, hard)
          held.each(&:close)
        end
      end
    end

    # The supervisor's own VM is busy.
    def burn
      length = @random.rand(0.3)
      beside do
        deadline = Chaos.now + length
        nil while Chaos.now < deadline
      end
    end

    def ignore_children
      trap("CLD", @random.rand < 0.5 ? "IGNORE" : "DEFAULT")
      true
    end

    # One at a time: two hoards would put each other's limit back.
    def beside(&block)
      @busy.reject! { |thread| !thread.alive? }
      return false unless @busy.empty?

      @busy << Thread.new(&block)
    end
  end
end
