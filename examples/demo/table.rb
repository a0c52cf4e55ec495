# frozen_string_literal: true

module Demo
  # Rows under titles, as wide as the terminal allows. Pure.
  class Table
    # `align` is :left or :right; columns with a higher `rank` go first where there is no room.
    Column = Struct.new(:title, :align, :rank)

    # @param columns [Array<Column>]
    # @param rows [Array<Array<String>>]
    def initialize(columns, rows)
      @columns = columns
      @rows = rows
    end

    # @param width [Integer, nil] of the terminal; nil: no limit
    # @return [Array<String>] the line of titles and one a row
    def lines(width = nil)
      shown = shown(width)
      [@columns.map(&:title), *@rows].map { |row| "  #{line(row, shown)}".rstrip }
    end

    # @return [Integer] how wide the table is with all its columns
    def width(shown = (0...@columns.size).to_a)
      2 + shown.sum { |i| widths[i] } + (2 * (shown.size - 1))
    end

    private

    def widths
      @widths ||= @columns.each_index.map { |i| [@columns[i].title, *@rows.map { |row| row[i] }].map(&:size).max }
    end

    def shown(limit)
      shown = (0...@columns.size).to_a
      while limit && shown.size > 1 && width(shown) > limit
        shown.delete(shown.max_by { |i| [@columns[i].rank, i] })
      end
      shown
    end

    def line(row, shown)
      shown.map { |i| @columns[i].align == :left ? row[i].ljust(widths[i]) : row[i].rjust(widths[i]) }.join("  ")
    end
  end
end
