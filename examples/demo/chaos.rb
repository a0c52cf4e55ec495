# frozen_string_literal: true

require "fiddle"
require_relative "clock"
require_relative "fault"

module Demo
  # Strikes one node after the other, each with another fault; the seed decides the order, the targets and the pauses.
  #
  # Nothing here goes through the code under test: signals are the kernel's own, sent to the process that a ledger
  # names, and what a node has to do to itself it finds in a file (see {Misfortune}).
  class Chaos
    # How long the swarm has peace between the repair of one fault and the next.
    PAUSE = (0.2..0.8)

    # @return [Array<Fault>] those that have struck
    attr_reader :faults

    # @param folder [String] where nodes look for what they have to do to themselves
    # @param nodes [Integer]
    # @param seed [Integer]
    def initialize(folder, nodes, seed)
      @folder = folder
      random = Random.new(seed)
      targets = Array.new(Fault::KINDS.size) { |i| i % nodes }
      targets = (0...nodes).to_a.sample(Fault::KINDS.size, random: random) if nodes >= Fault::KINDS.size
      @plan = Fault::KINDS.keys.shuffle(random: random).zip(targets)
                          .map { |kind, node| [kind, node, random.rand(PAUSE)] }
      @faults = []
      @due = nil
    end

    # @return [Integer] faults that are still to come or to be repaired
    def pending
      @plan.size + @faults.count { |fault| !fault.repaired? }
    end

    # @param at_work [Hash{Integer => Integer}] pids of the nodes that process messages right now, by node
    # @return [Fault, nil] one that struck in this moment
    def tick(at_work)
      read_strike
      return if @plan.empty? || !(@faults.empty? || @faults.last.repaired?)

      kind, node, pause = @plan.first
      @due ||= Clock.now + pause
      return unless at_work[node] && Clock.now >= @due

      fault = Fault.new(kind, node, at_work[node])
      return unless strike(fault)

      @plan.shift
      @due = nil
      @faults.push(fault).last
    end

    private

    def strike(fault)
      case fault.kind
      when :kill then signal(fault, :KILL)
      when :freeze then signal(fault, :STOP)
      else Misfortune.order(@folder, fault.pid, fault.kind)
      end
    end

    def signal(fault, name)
      fault.struck(Clock.now)
      Process.kill(name, fault.pid)
    rescue Errno::ESRCH
      nil
    end

    def read_strike
      fault = @faults.last
      time = fault && Misfortune.struck_at(@folder, fault.pid)
      fault.struck(time) if time
    end
  end

  # What a node does to itself. It is told by a file with the node's pid as its name, and tells by another one when it
  # did it.
  class Misfortune
    # For how many seconds a node hangs in C code with the GVL held: no other Ruby thread of the node runs, and no
    # signal of it is handled. It ends by itself, in case that nobody ends it.
    SILENCE = 30

    # A locked mutex is waited for whatever signals come. Arguments: the mutex, and until when.
    LOCK = Fiddle::Function.new(Fiddle::Handle::DEFAULT["pthread_mutex_timedlock"],
                                [Fiddle::TYPE_VOIDP, Fiddle::TYPE_VOIDP], Fiddle::TYPE_INT, need_gvl: true)
    private_constant :LOCK

    class << self
      def order(folder, pid, kind)
        replace(File.join(folder, pid.to_s), kind.to_s)
      end

      # @return [Float, nil]
      def struck_at(folder, pid)
        path = File.join(folder, "#{pid}.struck")
        Float(File.read(path)) if File.exist?(path)
      end

      # Nobody ever reads half of it.
      def replace(path, text)
        File.write("#{path}.part", text)
        File.rename("#{path}.part", path)
      end
    end

    def initialize(folder)
      @path = File.join(folder, Process.pid.to_s)
    end

    # Called between batches.
    def befall
      return unless File.exist?(@path)

      kind = File.read(@path)
      File.delete(@path)
      self.class.replace("#{@path}.struck", Clock.now.to_s)
      case kind
      when "crash" then raise "the demo crashes this node"
      when "silence" then self.class.hold_gvl(SILENCE)
      else raise ArgumentError, "fault #{kind.inspect} given, allowed: crash, silence"
      end
    end

    # @param seconds [Numeric]
    def self.hold_gvl(seconds)
      # All zeros is an unlocked one, in any C library for Linux; none is larger.
      mutex = "\0" * 64
      due = Time.now + seconds
      2.times { LOCK.call(mutex, [due.to_i, due.nsec].pack("l!l!")) }
    end
  end
end
