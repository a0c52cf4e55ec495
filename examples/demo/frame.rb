# frozen_string_literal: true

require_relative "table"
require_relative "words"

module Demo
  # One picture of a run: a line a node, the whole, the faults so far. Pure: a run goes in, lines come out.
  class Frame
    NODES = [
      Table::Column.new("node", :right, 0), Table::Column.new("state", :left, 1), Table::Column.new("pid", :right, 4),
      Table::Column.new("restarts", :right, 3), Table::Column.new("messages/s", :right, 2)
    ].freeze
    FAULTS = [
      Table::Column.new("fault", :left, 0), Table::Column.new("node", :right, 4),
      Table::Column.new("noticed", :right, 1), Table::Column.new("replaced", :right, 2),
      Table::Column.new("first message", :right, 3)
    ].freeze
    BAR = (8..40).freeze
    # Of the figures behind a bar.
    SHARE = 7

    GOOD = 32
    WAITING = 33
    BAD = 31
    COLOURS = { "ready" => GOOD, "booting" => WAITING, "stopping" => WAITING }.freeze
    # As wide as the longest one, so that the columns stay where they are.
    STATE = "stopping".size

    # @return [Array<Array<String>>] rows for {FAULTS}
    def self.fault_rows(faults)
      faults.map do |fault|
        times = [fault.detected, fault.replaced, fault.first_message].map { |time| Words.seconds(time) }
        [fault.text, fault.node.to_s, *times]
      end
    end

    # @param width [Integer]
    # @param colour [Boolean]
    # @param unicode [Boolean]
    def initialize(width:, colour:, unicode:)
      @width = width
      @colour = colour
      @full, @empty = unicode ? %w[█ ░] : %w[# .]
    end

    # @param run [Run]
    # @param now [Float]
    # @param final [Boolean] whether the run is over: then the rates are those of all of it, and the faults are left to
    #   the report
    # @return [Array<String>]
    def lines(run, now, final: false)
      rates = run.fleet.nodes.map { |node| final ? node.processed / [run.seconds, 0.001].max : node.rate(now) }
      head = "#{run.title}: #{Words.count(run.audit.processed)} of #{Words.count(run.messages)} messages, " \
             "#{run.elapsed.round} s"
      body = run.swarm? ? nodes(run, rates) : whole(run, rates)
      body += faults(run.faults) unless final
      [head, *body].map { |line| cut(line) }
    end

    private

    def nodes(run, rates)
      nodes = run.fleet.nodes
      rows = nodes.zip(rates).map do |node, rate|
        [node.id.to_s, node.state.ljust(STATE), (node.pid || "-").to_s, node.restarts.to_s, Words.count(rate)]
      end
      rows << ["all", "", "", nodes.sum(&:restarts).to_s, Words.count(rates.sum)]
      shares = nodes.map { |node| node.processed.fdiv(run.messages) } << share(run)
      titles, *lines = Table.new(NODES, rows).lines(@width)
      lines = lines.zip(shares, rows).map do |line, part, row|
        colour_state(line, row[1].strip) + bar(part, line.size)
      end
      [titles, *lines]
    end

    def whole(run, rates)
      line = "  #{Words.count(rates.sum).rjust(7)} messages/s"
      [line + bar(share(run), line.size)]
    end

    def share(run)
      run.audit.processed.fdiv(run.messages)
    end

    def faults(faults)
      faults.empty? ? [] : ["", *Table.new(FAULTS, self.class.fault_rows(faults)).lines(@width)]
    end

    # What is left of the line, in full and empty.
    def bar(share, used)
      room = [@width - used - 2 - SHARE, BAR.max].min
      return "" if room < BAR.min

      full = (share * room).floor.clamp(0, room)
      format("  %<bar>s %<share>4d%%", bar: (@full * full) + (@empty * (room - full)), share: (share * 100).floor)
    end

    def colour_state(line, state)
      return line if !@colour || state.empty?

      line.sub(state, "\e[#{COLOURS.fetch(state, BAD)}m#{state}\e[0m")
    end

    # Colours take no room on the screen.
    def cut(line)
      plain = line.gsub(/\e\[\d+m/, "")
      plain.size > @width ? plain[0, @width] : line
    end
  end
end
