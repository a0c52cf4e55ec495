# frozen_string_literal: true

module Chaos
  # Keeps what was told, and counts at the end.
  class Ledger
    # What may fail where descriptors run out and replacements are killed.
    EXPECTED = ["fork failed", "rolling restart given up"].freeze

    def initialize(swarm)
      @files = files.tally
      @started = Hash.new(0)
      @ended = Hash.new(0)
      @errors = Hash.new(0)
      @reasons = Hash.new(0)
      @living = {}
      @problems = []
      @begun = Chaos.now
      swarm.on(:node_started) { |event| start(event) }
      swarm.on(:node_exited) { |event| finish(event) }
      swarm.on(:error) { |event| @errors[event.message[/\A[^:]+/]] += 1 }
    end

    # @return [Array<String>] what does not add up
    def problems
      @problems << "#{@started.values.sum} starts, #{@ended.values.sum} ends" unless @started.size == @ended.size
      @problems << "never ended: #{@living}" unless @living.empty?
      left = children
      @problems << "children left: #{left}" unless left.empty?
      more = files.tally.reject { |kind, count| count <= @files.fetch(kind, 0) }
      @problems << "descriptors more than before: #{more}" unless more.empty?
      unexpected = @errors.keys - EXPECTED
      @problems << "a listener or the core failed: #{unexpected}" unless unexpected.empty?
      @problems
    end

    def summary(strikes)
      ["#{strikes.values.sum} strikes: #{words(strikes)}", "#{@started.size} starts, #{@ended.values.sum} ends: #{words(@reasons)}",
       "errors: #{words(@errors)}", format("%.1f s", Chaos.now - @begun)]
    end

    private

    def start(event)
      @problems << "node #{event.node_id} has two processes, #{@living[event.node_id]} and #{event.pid}" if @living[event.node_id]
      @living[event.node_id] = event.pid
      @started[[event.pid, @started.size]] += 1
    end

    def finish(event)
      @problems << "#{event.pid} ended, and #{@living[event.node_id].inspect} lived" unless @living.delete(event.node_id) == event.pid
      @ended[[event.pid, @ended.size]] += 1
      @reasons[event.reason[/\w+/]] += 1
    end

    def words(counts) = counts.sort_by { |_, count| -count }.map { |name, count| "#{name} #{count}" }.join(", ")

    # What each open descriptor is; pipes and the like have numbers of their own.
    def files
      Dir.children("/proc/self/fd").filter_map do |descriptor|
        File.readlink("/proc/self/fd/#{descriptor}")
      rescue Errno::ENOENT
        nil # the one that read the folder
      end
    end

    # Whoever is still our child: a zombie, or a process that was not stopped.
    def children
      File.read("/proc/self/task/#{Process.pid}/children").split.map do |pid|
        "#{pid} #{File.read("/proc/#{pid}/stat")[/\) (.)/, 1]}"
      end
    end
  end
end
