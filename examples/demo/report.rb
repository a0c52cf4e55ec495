# frozen_string_literal: true

require "json"
require_relative "frame"
require_relative "settings"
require_relative "table"
require_relative "words"

module Demo
  # What came of it: the numbers, whether all is well, and both for people and for programs.
  class Report
    # Of a process that works all the time, on a machine with nothing else to do: it waits a little for messages.
    WHOLE_CORE = 0.8

    # @param options [Options]
    # @param alone [Run] by one process
    # @param swarm [Run]
    # @param cores [Integer]
    # @param sampled [Integer] results that differ from what the demo itself computed, of a sample
    def initialize(options, alone, swarm, cores:, sampled: 0)
      @options = options
      @alone = alone
      @swarm = swarm
      @cores = cores
      @sampled = sampled
    end

    def good?
      problems.empty?
    end

    # @return [Array<String>] what is not as it has to be, in words
    def problems
      @problems ||= [*problems_of(@alone), *problems_of(@swarm), *wrong_problem, *fault_problems]
    end

    # @return [Hash] seconds are Floats; nil is what could not be measured
    def to_h
      {
        ok: good?, problems: problems, nodes: @options.nodes, messages: @options.messages, seed: @options.seed,
        cores: @cores, processed: @swarm.audit.processed, lost: lost, duplicates: @swarm.audit.duplicates, wrong: wrong,
        one_process: speed_hash(@alone), swarm: speed_hash(@swarm), ratio: ratio, comparable: comparable?,
        faults: @swarm.faults.map { |fault| fault_hash(fault) }, left_behind: left_behind.size
      }
    end

    # @param width [Integer, nil] of the terminal
    # @return [Array<String>]
    def lines(width = nil)
      [*account, "", *speed, *faults(width), "", *verdict].flat_map { |line| Words.wrap(line, width) }
    end

    private

    def lost = @swarm.audit.lost
    def wrong = @swarm.audit.differing(@alone.audit) + @sampled
    def left_behind = @left_behind ||= @alone.left_behind + @swarm.left_behind

    def ratio
      alone = @alone.throughput.rate
      swarm = @swarm.throughput.rate
      (swarm / alone).round(2) if alone && swarm
    end

    def speed_hash(run)
      { messages_per_second: run.throughput.rate&.round, cores_used: run.cpu.cores&.round(2),
        stretch: run.throughput.lasted.round(3), seconds: run.seconds.round(3), lost: run.audit.lost }
    end

    def fault_hash(fault)
      { kind: fault.kind, node: fault.node, pid: fault.pid, reason: fault.reason, detected: fault.detected&.round(4),
        replaced: fault.replaced&.round(4), first_message: fault.first_message&.round(4), repaired: fault.repaired? }
    end

    def problems_of(run)
      audit = run.audit
      problems = run.problems.map { |problem| "#{run.title}: #{problem}" }
      unless audit.complete?
        problems << "#{run.title}: #{Words.plural(audit.lost, 'message')} lost, ids #{audit.lost_ids.join(' ')} ..."
      end
      strangers = audit.strangers
      problems << "#{run.title}: #{Words.plural(strangers, 'message')} that nobody sent" if strangers.positive?
      problems
    end

    def wrong_problem
      wrong.zero? ? [] : ["#{Words.plural(wrong, 'message')} with another result than in one process"]
    end

    def fault_problems
      problems = @swarm.faults.reject(&:repaired?).map { |fault| "node #{fault.node}, #{fault.text}: not repaired" }
      missing = @options.chaos ? Fault::KINDS.size - @swarm.faults.size : 0
      problems << "#{Words.plural(missing, 'fault')} could not strike" if missing.positive?
      problems << "processes left behind: #{left_behind.join(' ')}" unless left_behind.empty?
      problems
    end

    def account
      audit = @swarm.audit
      [
        "Processed    #{Words.count(audit.processed)} of #{Words.count(@options.messages)} messages",
        "Lost         #{Words.count(audit.lost)}",
        "Duplicates   #{Words.count(audit.duplicates)}   (at least once: what was not committed yet is done again)"
      ]
    end

    def speed
      ["One process  #{per_second(@alone)}", "Swarm        #{per_second(@swarm)}#{compared}", *limits]
    end

    def per_second(run)
      rate = run.throughput.rate
      return "not measured: too few messages for an undisturbed second" unless rate

      format("%<rate>s messages/s on %<cores>.2f cores", rate: Words.count(rate), cores: run.cpu.cores)
    end

    def compared
      ratio ? ", #{ratio} x one process" : ""
    end

    # One process that works all the time has a whole core, unless other programs take a part of it. More than all cores
    # can do means that they took more of it in the first run than in the second.
    def comparable?
      !ratio.nil? && @alone.cpu.cores >= WHOLE_CORE && ratio <= most
    end

    def most
      [@cores, @options.nodes].min
    end

    def limits
      return [] unless ratio

      unless comparable?
        return ["             (not to be compared: other programs were busy too, and not equally in both runs)"]
      end

      ["             (#{'before the first fault; ' if @options.chaos}#{most} x is the most for " \
       "#{Words.plural(@options.nodes, 'node')} on #{Words.plural(@cores, 'core')}, which broker and producer use too)"]
    end

    def faults(width)
      return [] if @swarm.faults.empty?

      ["", *Table.new(Frame::FAULTS, Frame.fault_rows(@swarm.faults)).lines(width), "",
       "  A hung node is noticed by report_timeout, here #{Words.seconds(POLICY[:report_timeout])}, and has " \
       "shutdown_timeout,",
       "  here #{Words.seconds(POLICY[:shutdown_timeout])}, to stop before it is killed."]
    end

    def verdict
      return ["Nothing was lost#{', and every fault was repaired' if @options.chaos}."] if good?

      ["FAILED", *problems.map { |problem| "  #{problem}" }]
    end
  end
end
