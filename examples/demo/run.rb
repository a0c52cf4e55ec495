# frozen_string_literal: true

require "json"
require "fileutils"
require_relative "child"
require_relative "chaos"
require_relative "clock"
require_relative "cpu"
require_relative "fleet"
require_relative "ledger"
require_relative "pace"
require_relative "throughput"

module Demo
  # One run of all messages, by one process or by the swarm: produces at the pace of consumption, strikes, and keeps
  # the account.
  class Run
    TICK = 0.05
    # Nothing new for so long means that nothing comes any more: a message, or the repair of a fault. All that the swarm
    # waits for takes a few seconds.
    PATIENCE = 15.0
    # How long the swarm is left alone, so that its throughput can be compared.
    PEACE = 3.0

    attr_reader :title, :fleet, :audit, :throughput, :cpu, :messages, :problems

    # @param title [String]
    # @param topic [String]
    # @param folder [String] a new one
    # @param workers [Integer] processes that do the work
    # @param program [Array<#to_s>] the program that starts them and its arguments after the folder
    def initialize(title, topic:, folder:, workers:, program:, servers:, options:, chaos: false)
      @title = title
      @topic = topic
      @folder = folder
      @servers = servers
      @messages = options.messages
      @seed = options.seed
      @program = program
      @fleet = Fleet.new(workers)
      @audit = Audit.new(@messages)
      @throughput = Throughput.new(workers)
      @cpu = Cpu.new
      @pace = Pace.new(@messages)
      @pids = []
      @problems = []
      %w[ledgers faults].each { |name| FileUtils.mkdir_p(File.join(folder, name)) }
      @ledgers = LedgerReader.new(File.join(folder, "ledgers"))
      @chaos = Chaos.new(File.join(folder, "faults"), workers, @seed) if chaos
    end

    # Returns when all is done, when nothing more comes, and when one of its programs has ended.
    # @yieldparam happening [String, nil] something that just happened, or nil at each tick
    def call(&block)
      start
      until over?
        sleep TICK
        tick(&block)
      end
      @ended_at = Clock.now
    ensure
      stop
    end

    # @return [Boolean] whether nodes do the work, or one process alone
    def swarm?
      @program.first == "swarm.rb"
    end

    def faults
      @chaos ? @chaos.faults : []
    end

    # @return [Float] seconds from the first message processed to the last
    def seconds
      @first && @last ? @last - @first : 0.0
    end

    def elapsed
      @began_at ? (@ended_at || Clock.now) - @began_at : 0.0
    end

    # @return [Float] of late
    def rate
      now = Clock.now
      @fleet.nodes.sum { |node| node.rate(now) }
    end

    # @return [Boolean] whether every fault has struck and was repaired
    def repaired?
      @chaos.nil? || @chaos.pending.zero?
    end

    # @return [Array<Integer>] processes of this run that are still there
    def left_behind
      @pids.select do |pid|
        Process.kill(0, pid)
      rescue Errno::ESRCH
        false
      end
    end

    private

    def start
      @began_at = @progress_at = Clock.now
      @workers = child(*@program.first(1), @servers, @topic, @folder, *@program.drop(1))
      @producer = child("producer.rb", @servers, @topic, partitions, @seed)
    end

    def partitions
      Main.partitions(@fleet.nodes.size)
    end

    def child(program, *arguments)
      Child.new(program, *arguments, log: File.join(@folder, "#{File.basename(program, '.rb')}.log"))
    end

    def tick(&block)
      # Events first: a replacement is known before its first line in a ledger is read.
      @workers.lines.each { |line| hear(JSON.parse(line), &block) }
      @ledgers.each_new { |batch| read(batch) }
      measure
      strike(&block)
      advance
      yield nil
    end

    def read(batch)
      @pids |= [batch.pid]
      batch.results.each { |id, result| @audit.record(id, result) }
      [@fleet, @throughput, *faults].each { |listener| listener.batch(batch) }
      return if batch.results.empty?

      @first ||= batch.time
      @last = batch.time
      @progress_at = Clock.now
    end

    def hear(event)
      @pids |= [event["pid"]].compact
      [@fleet, *faults].each { |listener| listener.event(event) }
      yield event["text"]
    end

    def strike
      return unless @chaos && peace_over?

      end_stretch
      fault = @chaos.tick(@fleet.at_work(Clock.now)) or return
      @fleet.nodes[fault.node].struck
      yield "node #{fault.node} (pid #{fault.pid}) is to be #{fault.text}"
    end

    def peace_over?
      @peace_over ||= @throughput.lasted(Clock.now) >= PEACE || @audit.processed >= @messages * 0.3
    end

    # The first one to come would do it all where there are few messages.
    def all_joined?
      @all_joined ||= !swarm? || @fleet.nodes.all? { |node| node.state == "ready" }
    end

    def advance
      return unless all_joined?

      before = @pace.limit
      limit = @pace.advance(@audit.processed, Clock.now, pending: !repaired?)
      @producer.tell(limit) if limit > before
      end_stretch if @pace.finished?
    end

    # The stretch in which nobody is disturbed, for the comparison of throughputs.
    def measure
      return if @cpu.begun? || @throughput.finished? || @throughput.lasted(Clock.now).zero?

      @cpu.begin(@fleet.nodes.map(&:pid))
    end

    def end_stretch
      @throughput.finish(Clock.now)
      @cpu.finish
    end

    def over?
      return true if @audit.complete? && repaired?

      early = [@workers, @producer].reject(&:running?)
      @problems.concat(early.map { |child| "#{child} ended too early: #{child.status}" })
      return true unless early.empty?

      # While a fault is being repaired the others go on, or take what is kept for that time.
      [@progress_at, *faults.last&.unrepaired_since].min < Clock.now - PATIENCE
    end

    def stop
      [@producer, @workers].compact.each do |child|
        running = child.running?
        status = child.stop
        @problems << "#{child} ended badly: #{status}" if running && !status.success?
      end
    end
  end
end
