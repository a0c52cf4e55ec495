# frozen_string_literal: true

require "rbconfig"

module Soak
  # The swarm as a process of its own, that can be struck and started again.
  class Fleet
    # Seconds within which nodes are gone once their supervisor is. One that is frozen goes once it runs.
    ORPHANED = 10
    # Seconds that the swarm may take to stop.
    STOPPING = 60

    # @return [Array<String>] what was wrong so far
    attr_reader :problems
    # @return [Array<Array(Integer, Integer, Integer)>] pids of nodes, with the milliseconds from and to which they were
    #   frozen or thawed, or had no broker
    attr_reader :kept

    def initialize(*arguments)
      @arguments = arguments.map(&:to_s)
      @problems = []
      @kept = []
      start
    end

    def start
      @pid = spawn(RbConfig.ruby, File.join(__dir__, "node.rb"), *@arguments, in: File::NULL, %i[out err] => ["output", "a"])
    end

    # @return [Array<Integer>] pids of the nodes
    def nodes = File.read("/proc/#{@pid}/task/#{@pid}/children").split.map(&:to_i)

    # Nobody can commit while the block runs.
    def keep_all
      begun = Soak.now_ms
      alive = nodes
      yield
      (alive | nodes).each { |pid| @kept << [pid, begun, Soak.now_ms] }
    end

    # By a handle, and only while it is our supervisor's child: what was found may have ended since.
    # @return [Boolean] whether it has hit anybody
    def hit(signal, random)
      ensure_alive
      pid = nodes.sample(random: random) or return false
      node = SwarmNative::Pidfd.new(pid)
      return false unless nodes.include?(pid) && node.signal(signal)

      @kept << [pid, Soak.now_ms, Soak.now_ms] if %i[STOP CONT].include?(signal)
      true
    rescue Errno::ESRCH
      false
    ensure
      node&.close
    end

    def thaw = tell_all(:CONT)

    def tell_all(signal)
      each_node { |node| node.signal(signal) }
    end

    # Kills the supervisor, sees its nodes go, and starts another.
    def restart
      orphans = []
      each_node(close: false) { |node| orphans << node }
      end_with(:KILL)
      orphans.each { |node| node.signal(:CONT) }
      stayed = orphans.reject { |node| node.wait(ORPHANED) }
      @problems << "#{stayed.size} nodes outlived their supervisor by #{ORPHANED} s" unless stayed.empty?
      stayed.each { |node| node.signal(:KILL) }
      start
    end

    # @return [Array<String>] what was wrong with the stop
    def stop
      left = nodes
      handle = SwarmNative::Pidfd.new(@pid)
      handle.signal(:TERM)
      overdue = handle.wait(STOPPING).nil?
      handle.signal(:KILL) if overdue
      status = Process.wait2(@pid).last
      @pid = nil
      left.select! { |pid| File.exist?("/proc/#{pid}") }
      [("the swarm did not stop within #{STOPPING} s" if overdue), ("the swarm ended with #{status}" unless status.success?),
       ("nodes left: #{left}" unless left.empty?)].compact
    end

    # Whatever has happened, nobody stays.
    def end_all
      return unless @pid

      each_node { |node| node.signal(:KILL) }
      end_with(:KILL)
    end

    # @return [Hash{String => Integer}] how nodes have ended, and what went wrong
    def events
      File.exist?("events") ? File.readlines("events", chomp: true).map { |line| line[/\A\S+ [\w ]+/] }.tally : {}
    end

    private

    def each_node(close: true)
      nodes.each do |pid|
        node = SwarmNative::Pidfd.new(pid)
        yield node
        node.close if close
      rescue Errno::ESRCH
        nil
      end
    end

    def ensure_alive
      return if File.read("/proc/#{@pid}/stat")[/\) (.)/, 1] != "Z"

      raise "the supervisor has ended:\n#{File.read("output")}"
    end

    def end_with(signal)
      Process.kill(signal, @pid)
      Process.wait(@pid)
      @pid = nil
    end
  end
end
